package s3door

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sallyport"
	"sallyport/gateway"
)

func TestBuckets(t *testing.T) {
	l := newLab(t)
	a := l.do("GET", "/", nil).want(t, 200, "")
	var b bucketsBody
	if err := xml.Unmarshal(a.body, &b); err != nil || len(b.Buckets) != 2 || b.Buckets[0].Name != "inbox" || b.Buckets[1].Name != "ward" || b.Owner.ID != "alice" {
		t.Errorf("%+v %v", b, err)
	}
	a = l.do("GET", "/?max-buckets=1", nil).want(t, 200, "")
	b = bucketsBody{}
	if err := xml.Unmarshal(a.body, &b); err != nil || len(b.Buckets) != 1 || b.ContinuationToken == "" {
		t.Fatalf("%+v %v", b, err)
	}
	a = l.do("GET", "/?continuation-token="+b.ContinuationToken, nil).want(t, 200, "")
	b = bucketsBody{}
	if err := xml.Unmarshal(a.body, &b); err != nil || len(b.Buckets) != 1 || b.Buckets[0].Name != "ward" {
		t.Errorf("%+v %v", b, err)
	}
	if a := l.do("HEAD", "/ward", nil).want(t, 200, ""); a.header.Get("x-amz-bucket-region") != "us-east-1" {
		t.Error("no region")
	}
	l.do("HEAD", "/nowhere/", nil).want(t, 404, "")
	l.do("GET", "/ward?location", nil).want(t, 200, "")
	l.do("GET", "/nowhere?location", nil).want(t, 404, "NoSuchBucket")
	l.do("GET", "/nowhere", nil).want(t, 404, "NoSuchBucket")
	l.do("GET", "/nowhere/a.csv", nil).want(t, 404, "NoSuchBucket")
	l.do("DELETE", "/nowhere/a.csv", nil).want(t, 404, "NoSuchBucket")
	l.do("GET", "/ward/a.csv", nil).want(t, 404, "NoSuchKey")
}

func TestRead(t *testing.T) {
	l := newLab(t)
	const text = "abcdefghijklmnopqrstuvwxyz"
	l.put("ward", "dir/a.csv", text)
	l.put("ward", "empty", "")
	etag := info("", []byte(text)).ETag
	a := l.do("GET", "/ward/dir/a.csv", nil).want(t, 200, "")
	if string(a.body) != text || a.header.Get("ETag") != `"`+etag+`"` || a.header.Get("Content-Type") != "text/csv" ||
		a.header.Get("Content-Length") != "26" || a.header.Get("Last-Modified") != "Wed, 04 Mar 2026 05:06:07 GMT" || a.header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("%q %v", a.body, a.header)
	}
	for _, c := range []struct {
		rng    string
		status int
		body   string
		header string
	}{
		{"bytes=0-0", 206, "a", "bytes 0-0/26"}, {"bytes=2-4", 206, "cde", "bytes 2-4/26"}, {"bytes=24-", 206, "yz", "bytes 24-25/26"},
		{"bytes=24-99", 206, "yz", "bytes 24-25/26"}, {"bytes=-3", 206, "xyz", "bytes 23-25/26"}, {"bytes=-99", 206, text, "bytes 0-25/26"},
		// What is no single range of bytes is passed over, as on S3 (RFC 9110, section 14.2).
		{"bytes=4-2", 200, text, ""}, {"lines=1-2", 200, text, ""}, {"bytes=0-1,4-5", 200, text, ""}, {"bytes=x-", 200, text, ""}, {"bytes=-", 200, text, ""},
	} {
		a := l.do("GET", "/ward/dir/a.csv", nil, "Range", c.rng).want(t, c.status, "")
		if string(a.body) != c.body || a.header.Get("Content-Range") != c.header {
			t.Errorf("%s: %q %s", c.rng, a.body, a.header.Get("Content-Range"))
		}
		if h := l.do("HEAD", "/ward/dir/a.csv", nil, "Range", c.rng).want(t, c.status, ""); h.header.Get("Content-Length") != fmt.Sprint(len(c.body)) {
			t.Errorf("HEAD %s: %s", c.rng, h.header.Get("Content-Length"))
		}
	}
	for _, rng := range []string{"bytes=26-", "bytes=26-30", "bytes=-0", "bytes=9223372036854775807-"} {
		a := l.do("GET", "/ward/dir/a.csv", nil, "Range", rng).want(t, 416, "InvalidRange")
		if a.header.Get("Content-Range") != "bytes */26" || !strings.Contains(string(a.body), "<ActualObjectSize>26<") || a.header.Get("ETag") == "" {
			t.Errorf("%s: %v %s", rng, a.header, a.body)
		}
	}
	l.do("GET", "/ward/empty", nil, "Range", "bytes=0-").want(t, 416, "InvalidRange")
	if a := l.do("GET", "/ward/empty", nil).want(t, 200, ""); len(a.body) != 0 {
		t.Error("an empty object is not empty")
	}
	before, after := day.Add(-time.Hour).Format(http.TimeFormat), day.Add(time.Hour).Format(http.TimeFormat)
	for _, c := range []struct {
		name, value string
		status      int
		code        string
	}{
		{"If-Match", `"` + etag + `"`, 200, ""}, {"If-Match", etag, 200, ""}, {"If-Match", "*", 200, ""}, {"If-Match", `"other"`, 412, "PreconditionFailed"},
		{"If-Match", `W/"` + etag + `"`, 412, "PreconditionFailed"},
		{"If-None-Match", `"` + etag + `"`, 304, ""}, {"If-None-Match", `"x", W/"` + etag + `"`, 304, ""}, {"If-None-Match", `"other"`, 200, ""}, {"If-None-Match", "*", 304, ""},
		{"If-Modified-Since", after, 304, ""}, {"If-Modified-Since", day.Format(http.TimeFormat), 304, ""}, {"If-Modified-Since", before, 200, ""}, {"If-Modified-Since", "nonsense", 200, ""},
		{"If-Unmodified-Since", after, 200, ""}, {"If-Unmodified-Since", before, 412, "PreconditionFailed"},
	} {
		a := l.do("GET", "/ward/dir/a.csv", nil, c.name, c.value).want(t, c.status, c.code)
		if c.status == 304 && a.header.Get("ETag") == "" {
			t.Error("304 without an ETag")
		}
	}
	// A true If-Match outweighs a false If-Unmodified-Since (S3 API Reference, GetObject).
	l.do("GET", "/ward/dir/a.csv", nil, "If-Match", etag, "If-Unmodified-Since", before).want(t, 200, "")
	l.do("GET", "/ward/dir/a.csv", nil, "If-None-Match", etag, "If-Modified-Since", before).want(t, 304, "")
	l.do("GET", "/ward/dir/a.csv", nil, "Range", "bytes=1-2", "If-Range", `"`+etag+`"`).want(t, 206, "")
	l.do("GET", "/ward/dir/a.csv", nil, "Range", "bytes=1-2", "If-Range", `"other"`).want(t, 200, "")

	a = l.do("GET", "/ward/dir/a.csv?response-content-type=text%2Fplain&response-content-disposition=attachment", nil).want(t, 200, "")
	if a.header.Get("Content-Type") != "text/plain" || a.header.Get("Content-Disposition") != "attachment" {
		t.Error(a.header)
	}
	l.do("GET", "/ward/dir/a.csv?response-content-type=a%0d%0aSet-Cookie:b", nil).want(t, 400, "InvalidURI")
	a = l.do("GET", "/ward/dir/a.csv", nil, "X-Amz-Checksum-Mode", "ENABLED").want(t, 200, "")
	sum, _ := digestBytes(sallyport.DigestOf([]byte(text)))
	if a.header.Get("x-amz-checksum-sha256") != base64.StdEncoding.EncodeToString(sum) {
		t.Error(a.header)
	}
	if l.mem.closed == 0 {
		t.Error("no object was closed")
	}
}

func TestWrite(t *testing.T) {
	l := newLab(t, withMax(1<<20))
	a := l.do("PUT", "/inbox/a%20b.csv", []byte("hello")).want(t, 200, "")
	if got, _ := l.mem.object("inbox", "a b.csv"); string(got) != "hello" || a.header.Get("ETag") != `"5d41402abc4b2a76b9719d911017c592"` {
		t.Errorf("%q %v", got, a.header)
	}
	// CRC-64/NVME of "123456789" is ae8b14860a799888 in the
	// RevEng catalogue, which has the check values of crc32 and crc32c too; the digests are OpenSSL's.
	for alg, sum := range map[string]string{"crc32": "y/Q5Jg==", "crc32c": "4waSgw==", "crc64nvme": "rosUhgp5mIg=", "sha1": "98O8HYCOBHMq32eZZczDTKeuNEE=", "sha256": "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="} {
		a := l.do("PUT", "/inbox/"+alg, []byte("123456789"), "x-amz-checksum-"+alg, sum)
		if a.want(t, 200, "").header.Get("x-amz-checksum-"+alg) != sum {
			t.Error(alg, a.header)
		}
		l.do("PUT", "/inbox/"+alg, []byte("123456780"), "x-amz-checksum-"+alg, sum).want(t, 400, "BadDigest")
	}
	l.do("PUT", "/inbox/k", []byte("hello"), "Content-MD5", "XUFAKrxLKna5cZ2REBfFkg==").want(t, 200, "")
	for _, c := range []struct {
		header, value, code string
		status              int
	}{
		{"Content-MD5", "XUFAKrxLKna5cZ2REBfFkw==", "BadDigest", 400}, {"Content-MD5", "short", "InvalidDigest", 400},
		{"X-Amz-Checksum-Crc32", "AAA=", "InvalidRequest", 400}, {"X-Amz-Checksum-Crc999", "AAAA", "NotImplemented", 501},
		{"X-Amz-Trailer", "x-amz-checksum-crc32", "InvalidRequest", 400}, {"X-Amz-Sdk-Checksum-Algorithm", "crc999", "InvalidRequest", 400},
		{"X-Amz-Copy-Source", "/ward/a.csv", "NotImplemented", 501}, {"X-Amz-Acl", "public-read", "AccessControlListNotSupported", 400},
		{"X-Amz-Storage-Class", "GLACIER", "InvalidStorageClass", 400}, {"X-Amz-Tagging", "a=b", "NotImplemented", 501},
		{"X-Amz-Server-Side-Encryption", "aws:kms", "NotImplemented", 501}, {"X-Amz-Website-Redirect-Location", "/x", "NotImplemented", 501},
		{"If-None-Match", "*", "NotImplemented", 501}, {"X-Amz-Decoded-Content-Length", "5", "InvalidRequest", 400},
	} {
		l.do("PUT", "/inbox/refused", []byte("hello"), c.header, c.value).want(t, c.status, c.code)
	}
	l.do("PUT", "/inbox/refused/", []byte("")).want(t, 400, "InvalidArgument")
	l.do("PUT", "/inbox/refused", make([]byte, 1<<20+1)).want(t, 400, "EntityTooLarge")
	r := l.request("PUT", "/inbox/refused", []byte("hello"))
	r.ContentLength = -1
	l.send(signed(r)).want(t, 411, "MissingContentLength")
	r = l.request("PUT", "/inbox/refused", []byte("hello"))
	r.Header.Set("X-Amz-Content-Sha256", digestHex([]byte("other")))
	l.send(signed(r)).want(t, 400, "XAmzContentSHA256Mismatch")
	if _, there := l.mem.object("inbox", "refused"); there {
		t.Error("a refused upload was stored")
	}
	l.do("DELETE", "/inbox/k", nil).want(t, 204, "")
	l.do("DELETE", "/inbox/k", nil).want(t, 204, "")
	if _, there := l.mem.object("inbox", "k"); there {
		t.Error("a removed object is there")
	}
	l.put("inbox", "one", "1")
	l.put("inbox", "two", "2")
	body := []byte(`<Delete xmlns="` + xmlns + `"><Object><Key>one</Key></Object><Object><Key>../two</Key></Object><Object><Key>gone</Key></Object></Delete>`)
	a = l.do("POST", "/inbox?delete", body).want(t, 200, "")
	var d deleteAnswer
	if err := xml.Unmarshal(a.body, &d); err != nil || len(d.Deleted) != 2 || len(d.Errors) != 1 || d.Errors[0].Code != "InvalidURI" {
		t.Errorf("%s %v", a.body, err)
	}
	if _, there := l.mem.object("inbox", "two"); !there {
		t.Error("a key with .. reached the store")
	}
	for _, bad := range []string{"", "<Delete>", "<Delete/>", `<!DOCTYPE d [<!ENTITY e "x">]><Delete><Object><Key>&e;</Key></Object></Delete>`, "<Delete><Object><Key>a</Key></Object></Delete><x/>", "<Other><Object><Key>a</Key></Object></Other>"} {
		l.do("POST", "/inbox?delete", []byte(bad)).want(t, 400, "MalformedXML")
	}
}

// TestOnlyTheList asks for what S3 knows and the door does not.
func TestOnlyTheList(t *testing.T) {
	l := newLab(t)
	l.put("ward", "a.csv", "x")
	for _, c := range []string{"PUT /newbucket", "DELETE /ward", "GET /ward?acl", "PUT /ward?policy", "GET /ward?versioning", "GET /ward?versions", "GET /ward?uploads",
		"PUT /ward?lifecycle", "GET /ward/a.csv?tagging", "GET /ward/a.csv?versionId=1", "GET /ward/a.csv?partNumber=1", "GET /ward/a.csv?attributes", "GET /ward/a.csv?torrent",
		"POST /ward/a.csv?restore", "POST /ward/a.csv?select&select-type=2", "POST /ward", "PATCH /ward/a.csv", "OPTIONS /ward/a.csv", "TRACE /ward/a.csv",
		"GET /ward/a.csv?uploadId=x", "PUT /ward/a.csv?uploadId=x", "POST /", "GET /ward?list-type=2&marker=a"} {
		method, path, _ := strings.Cut(c, " ")
		l.do(method, path, nil).want(t, 501, "NotImplemented")
	}
	l.do("GET", "/ward?list-type=3", nil).want(t, 400, "InvalidArgument")
	l.do("GET", "/ward/a.csv?x-id=GetObject", nil).want(t, 200, "")
	l.do("GET", "/ward/a.csv", []byte("body")).want(t, 400, "InvalidRequest")
	bare := newLab(t, withoutMultipart())
	bare.do("POST", "/inbox/k?uploads", nil).want(t, 501, "NotImplemented")
}

func TestErrorsOfViews(t *testing.T) {
	l := newLab(t)
	l.put("ward", "a.csv", "x")
	l.mem.deny("ward", "purpose marketing is none of the dataset's; row filter missing")
	a := l.do("GET", "/ward/a.csv", nil).want(t, 403, "AccessDenied")
	if !strings.Contains(string(a.body), "purpose marketing is none of the dataset&#39;s") || !strings.Contains(string(a.body), "Ask the steward.") {
		t.Errorf("the reason is missing: %s", a.body)
	}
	l.do("GET", "/ward?list-type=2", nil).want(t, 403, "AccessDenied")
	l.do("PUT", "/ward/b.csv", []byte("x")).want(t, 403, "AccessDenied")
	l.do("DELETE", "/ward/a.csv", nil).want(t, 403, "AccessDenied")
	for kind, want := range map[sallyport.Kind]struct {
		status int
		code   string
	}{
		sallyport.Denied: {403, "AccessDenied"}, sallyport.Invalid: {400, "InvalidRequest"}, sallyport.NotFound: {404, "NoSuchKey"},
		sallyport.Conflict: {409, "OperationAborted"}, sallyport.Unavailable: {503, "ServiceUnavailable"}, sallyport.Exhausted: {503, "ServiceUnavailable"},
		sallyport.Damaged: {500, "InternalError"}, sallyport.Unsupported: {501, "NotImplemented"}, sallyport.Canceled: {400, "RequestTimeout"},
		sallyport.Internal: {500, "InternalError"}, "": {500, "InternalError"},
	} {
		l.mem.fail = sallyport.E("open the hold at /inside/path", kind, errors.New("inner words"), "")
		a := l.do("GET", "/ward/a.csv", nil).want(t, want.status, want.code)
		if want.status >= 500 && kind != sallyport.Unsupported && strings.Contains(string(a.body), "inner words") {
			t.Errorf("%s: the answer tells about the inside: %s", kind, a.body)
		}
	}
}

func TestListPages(t *testing.T) {
	l := newLab(t)
	for _, k := range []string{"a.csv", "b/1", "b/2", "b/c/3", "d e+f.csv", "z/9", "ä.csv"} {
		l.put("ward", k, k)
	}
	for _, v2 := range []bool{false, true} {
		for _, size := range []string{"1", "2", "3", "1000"} {
			for _, delimiter := range []string{"", "/"} {
				var got []string
				query, next := "?max-keys="+size+"&encoding-type=url&delimiter="+delimiter, ""
				if v2 {
					query += "&list-type=2"
				}
				for pages := 0; pages < 20; pages++ {
					a := l.do("GET", "/ward"+query+next, nil).want(t, 200, "")
					var b listBody
					if err := xml.Unmarshal(a.body, &b); err != nil {
						t.Fatal(err)
					}
					last := ""
					for _, c := range b.Contents {
						got, last = append(got, c.Key), max(last, c.Key)
					}
					for _, c := range b.CommonPrefixes {
						got, last = append(got, c.Prefix), max(last, c.Prefix)
					}
					if !b.IsTruncated {
						break
					}
					switch {
					case v2:
						next = "&continuation-token=" + b.NextContinuationToken
					case b.NextMarker != "":
						next = "&marker=" + b.NextMarker
					default:
						next = "&marker=" + last
					}
				}
				want := "a.csv b/1 b/2 b/c/3 d%20e%2Bf.csv z/9 %C3%A4.csv"
				if delimiter != "" {
					want = "a.csv b/ d%20e%2Bf.csv z/ %C3%A4.csv"
				}
				if !sameSet(got, strings.Fields(want)) {
					t.Errorf("version 2 %v, page %s, delimiter %q: %q", v2, size, delimiter, got)
				}
			}
		}
	}
	for _, c := range []struct{ query, want string }{
		{"prefix=b/", "b/1|b/2|b/c/3"}, {"prefix=b/&delimiter=/", "b/1|b/2|b/c/"}, {"start-after=b/1&prefix=b", "b/2|b/c/3"}, {"prefix=../", ""}, {"prefix=/", ""},
		{"prefix=nothing", ""}, {"max-keys=0", ""}, {"start-after=b/1&delimiter=/", "b/|d e+f.csv|z/|ä.csv"}, {"prefix=b/c/..", ""},
	} {
		a := l.do("GET", "/ward?list-type=2&"+c.query, nil).want(t, 200, "")
		var b listBody
		if err := xml.Unmarshal(a.body, &b); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range b.Contents {
			got = append(got, o.Key)
		}
		for _, p := range b.CommonPrefixes {
			got = append(got, p.Prefix)
		}
		want := strings.FieldsFunc(c.want, func(r rune) bool { return r == '|' })
		if !sameSet(got, want) || *b.KeyCount != len(want) || b.IsTruncated {
			t.Errorf("%s: %q", c.query, got)
		}
	}
	for _, p := range l.mem.asked {
		if strings.Contains(p, "..") || strings.HasPrefix(p, "/") {
			t.Errorf("the view was asked for the prefix %q", p)
		}
	}
	for _, bad := range []string{"max-keys=-1", "max-keys=x", "continuation-token=!", "continuation-token=", "encoding-type=base64"} {
		l.do("GET", "/ward?list-type=2&"+bad, nil).want(t, 400, "InvalidArgument")
	}
}

func sameSet(a, b []string) bool {
	x, y := map[string][]byte{}, map[string][]byte{}
	for _, s := range a {
		x[s] = nil
	}
	for _, s := range b {
		y[s] = nil
	}
	return len(a) == len(b) && strings.Join(sortedKeys(x), "\n") == strings.Join(sortedKeys(y), "\n")
}

// TestPagesAreTheWhole holds for any keys: the pages together are the one page.
func TestPagesAreTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfDistinct(rapid.StringMatching(`[ab/]{1,5}`), func(s string) string { return s }).Draw(t, "keys")
		var objects []gateway.ObjectInfo
		for _, k := range keys {
			objects = append(objects, gateway.ObjectInfo{Key: k})
		}
		l := listing{prefix: rapid.StringMatching(`[ab/]{0,2}`).Draw(t, "prefix"), delimiter: rapid.SampledFrom([]string{"", "/", "a", "ab"}).Draw(t, "delimiter"), whole: true, most: 1 << 20}
		all := l.page(objects)
		l.most = rapid.IntRange(1, 4).Draw(t, "most")
		var keysGot, prefixesGot []string
		for {
			p := l.page(objects)
			if n := len(p.objects) + len(p.prefixes); n > l.most || p.truncated && n == 0 {
				t.Fatalf("a page of %d", n)
			}
			for _, o := range p.objects {
				keysGot = append(keysGot, o.Key)
			}
			prefixesGot = append(prefixesGot, p.prefixes...)
			if !p.truncated {
				break
			}
			l.after = p.last
		}
		var want []string
		for _, o := range all.objects {
			want = append(want, o.Key)
		}
		if strings.Join(keysGot, "\n") != strings.Join(want, "\n") || strings.Join(prefixesGot, "\n") != strings.Join(all.prefixes, "\n") {
			t.Fatalf("pages %q %q, whole %q %q", keysGot, prefixesGot, want, all.prefixes)
		}
	})
}

func TestMultipart(t *testing.T) {
	l := newLab(t)
	create := func() string {
		var in struct {
			UploadID string `xml:"UploadId"`
		}
		a := l.do("POST", "/inbox/big.csv?uploads", nil).want(t, 200, "")
		if err := xml.Unmarshal(a.body, &in); err != nil || in.UploadID == "" {
			t.Fatal(string(a.body), err)
		}
		return in.UploadID
	}
	id := create()
	part := func(n string, data []byte) string {
		return l.do("PUT", "/inbox/big.csv?partNumber="+n+"&uploadId="+id, data).want(t, 200, "").header.Get("ETag")
	}
	first := []byte(strings.Repeat("1", minPartSize))
	e3, e1, e2 := part("3", []byte("3")), part("1", first), part("2", []byte("2"))
	complete := func(id, parts string) answer {
		return l.do("POST", "/inbox/big.csv?uploadId="+id, []byte("<CompleteMultipartUpload>"+parts+"</CompleteMultipartUpload>"))
	}
	p := func(n, etag string) string {
		return "<Part><PartNumber>" + n + "</PartNumber><ETag>" + strings.ReplaceAll(etag, `"`, "&quot;") + "</ETag></Part>"
	}
	complete(id, p("3", e3)+p("1", e1)).want(t, 400, "InvalidPartOrder")
	complete(id, p("1", e1)+p("1", e1)).want(t, 400, "InvalidPartOrder")
	complete(id, p("1", e1)+p("4", e3)).want(t, 400, "InvalidPart")
	complete(id, p("1", e3)).want(t, 400, "InvalidPart")
	complete(id, p("1", e1)+p("2", e2)+p("3", e3)).want(t, 400, "EntityTooSmall")
	complete(id, "").want(t, 400, "MalformedXML")
	complete("other", p("1", e1)).want(t, 404, "NoSuchUpload")
	complete("%2e%2e", p("1", e1)).want(t, 404, "NoSuchUpload")
	if _, there := l.mem.object("inbox", "big.csv"); there {
		t.Fatal("an object is there before its upload is complete")
	}
	complete(id, p("1", e1)+p("3", e3)).want(t, 200, "")
	if got, _ := l.mem.object("inbox", "big.csv"); string(got) != string(first)+"3" {
		t.Errorf("%d bytes", len(got))
	}
	complete(id, p("1", e1)).want(t, 404, "NoSuchUpload")
	for _, n := range []string{"0", "10001", "-1", "01", "x", ""} {
		l.do("PUT", "/inbox/big.csv?partNumber="+n+"&uploadId="+id, []byte("x")).want(t, 400, "InvalidArgument")
	}
	id = create()
	l.do("PUT", "/inbox/other.csv?partNumber=1&uploadId="+id, []byte("x")).want(t, 404, "NoSuchUpload")
	l.do("DELETE", "/inbox/big.csv?uploadId="+id, nil).want(t, 204, "")
	l.do("DELETE", "/inbox/big.csv?uploadId="+id, nil).want(t, 404, "NoSuchUpload")
}

func TestStoringWithoutReadingIsNoSuccess(t *testing.T) {
	l := newLab(t)
	l.mem.putting = func(io.Reader) io.Reader { return strings.NewReader("") }
	l.do("PUT", "/inbox/a", []byte("hello")).want(t, 500, "InternalError")
}
