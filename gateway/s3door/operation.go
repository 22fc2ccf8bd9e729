package s3door

import (
	"net/http"
	"slices"
	"strings"
)

// operation is one entry of the allow-list. What is not in it is 501: another
// method, another parameter in the query, another x-amz- header.
type operation struct {
	name    string
	method  string
	level   level
	marks   []string // parameters that make it this operation; all must be there
	params  []string // parameters it may have
	headers []string // x-amz- headers it may have, lower case, beside the common
	run     func(*exchange) error
}

// level is what the path names.
type level int

const (
	service level = iota
	bucket
	object
)

// operations returns the allow-list. Those with more marks come first.
func operations() []operation {
	overrides := []string{"response-content-type", "response-content-language", "response-expires",
		"response-cache-control", "response-content-disposition", "response-content-encoding", "x-amz-checksum-mode", "X-Amz-Checksum-Mode"}
	list := []string{"prefix", "delimiter", "max-keys", "encoding-type"}
	read := []string{"x-amz-checksum-mode"}
	// Checksums are verified. ACL and storage class are only taken where they
	// ask for nothing. User metadata is not kept: the caller must expect to see
	// what policy shows, which is the view and not what was uploaded.
	write := []string{"x-amz-decoded-content-length", "x-amz-trailer", "x-amz-sdk-checksum-algorithm", "x-amz-checksum-*"}
	// A whole object's checksum (minio-go sends one) is taken and not compared:
	// each part's bytes were verified as they came, and ETags name the parts.
	complete := []string{"x-amz-checksum-*"}
	create := append([]string{"x-amz-acl", "x-amz-storage-class", "x-amz-meta-*"}, write...)
	return []operation{
		{"ListBuckets", http.MethodGet, service, nil, []string{"prefix", "max-buckets", "continuation-token"}, nil, (*exchange).listBuckets},
		{"HeadBucket", http.MethodHead, bucket, nil, nil, nil, (*exchange).headBucket},
		{"GetBucketLocation", http.MethodGet, bucket, []string{"location"}, nil, nil, (*exchange).bucketLocation},
		{"ListObjectsV2", http.MethodGet, bucket, []string{"list-type"}, append([]string{"continuation-token", "start-after", "fetch-owner"}, list...), nil, (*exchange).listObjectsV2},
		{"ListObjects", http.MethodGet, bucket, nil, append([]string{"marker"}, list...), nil, (*exchange).listObjectsV1},
		{"DeleteObjects", http.MethodPost, bucket, []string{"delete"}, nil, write, (*exchange).deleteObjects},
		{"HeadObject", http.MethodHead, object, nil, overrides, read, (*exchange).getObject},
		{"GetObject", http.MethodGet, object, nil, overrides, read, (*exchange).getObject},
		{"UploadPart", http.MethodPut, object, []string{"uploadId", "partNumber"}, nil, write, (*exchange).uploadPart},
		{"PutObject", http.MethodPut, object, nil, nil, create, (*exchange).putObject},
		{"CreateMultipartUpload", http.MethodPost, object, []string{"uploads"}, nil, create, (*exchange).createUpload},
		{"CompleteMultipartUpload", http.MethodPost, object, []string{"uploadId"}, nil, complete, (*exchange).completeUpload},
		{"AbortMultipartUpload", http.MethodDelete, object, []string{"uploadId"}, nil, nil, (*exchange).abortUpload},
		{"DeleteObject", http.MethodDelete, object, nil, nil, nil, (*exchange).deleteObject},
	}
}

// operation finds what is asked for.
func (x *exchange) operation() (operation, error) {
	at := service
	if x.target.bucket != "" {
		at = bucket
	}
	if x.target.key != "" {
		at = object
	}
	for _, op := range x.allowed {
		if op.method != x.r.Method || op.level != at || !x.marked(op.marks) {
			continue
		}
		return op, x.check(op)
	}
	return operation{}, newFault(codeNotImplemented, "A header you provided implies functionality that is not implemented: %s on this path.", clip(x.r.Method))
}

func (x *exchange) marked(marks []string) bool {
	return !slices.ContainsFunc(marks, func(m string) bool { return !x.target.query.has(m) })
}

// check refuses parameters and headers that the operation does not know: to
// pass over them would be to answer another question than was asked.
func (x *exchange) check(op operation) error {
	for name := range x.target.query {
		if slices.Contains(op.marks, name) || slices.Contains(op.params, name) || name == "x-id" {
			continue
		}
		if x.grant.presigned && slices.Contains([]string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
			"X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Security-Token", "X-Amz-Content-Sha256"}, name) {
			continue
		}
		return newFault(codeNotImplemented, "The parameter %q of %s is not implemented.", clip(name), op.name)
	}
	for name, values := range x.r.Header {
		name = strings.ToLower(name)
		if !strings.HasPrefix(name, "x-amz-") {
			continue
		}
		switch name {
		case "x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "x-amz-user-agent":
			continue
		}
		if !slices.ContainsFunc(op.headers, func(h string) bool {
			begin, any := strings.CutSuffix(h, "*")
			return h == name || any && strings.HasPrefix(name, begin)
		}) {
			return newFault(codeNotImplemented, "A header you provided implies functionality that is not implemented: %s of %s.", clip(name), op.name)
		}
		switch value := values[0]; {
		case name == "x-amz-acl" && value != "private" && value != "bucket-owner-full-control":
			return newFault(codeACLNotSupported, "The bucket does not allow ACLs: who may see what is decided by policy.")
		case name == "x-amz-storage-class" && value != "STANDARD":
			return newFault(codeInvalidStorageClass, "The storage class you specified is not valid.")
		}
	}
	return nil
}
