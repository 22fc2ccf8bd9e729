package s3door

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"

	"sallyport"
	"sallyport/gateway"
)

// The examples of the Amazon S3 API Reference, with the credentials that its
// documentation uses throughout: "Signature Calculations for the Authorization
// Header: Transferring Payload in a Single Chunk", "Authenticating Requests:
// Using Query Parameters", "... Transferring Payload in Multiple Chunks", and
// "... Including Trailing Headers".
const (
	exampleKey    = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	exampleScope  = "20130524/us-east-1/s3/aws4_request"
)

func exampleDoor(t *testing.T) *Door {
	m := newMemory()
	m.keys = map[string]string{exampleKey: exampleSecret}
	d, err := New(Parts{Views: m, Keys: m, Now: func() time.Time { return time.Date(2013, 5, 24, 0, 0, 30, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func exampleRequest(method, host, uri string, body io.Reader, signature, signedHeaders string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, "http://"+host+"/", body)
	r.RequestURI = uri
	r.Host = host
	r.Header.Set("X-Amz-Date", "20130524T000000Z")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+exampleKey+"/"+exampleScope+",SignedHeaders="+signedHeaders+",Signature="+signature)
	return r
}

func TestSignatureExamples(t *testing.T) {
	d := exampleDoor(t)
	const host = "examplebucket.s3.amazonaws.com"
	for _, c := range []struct {
		name      string
		r         *http.Request
		pathTaken string
	}{
		{"GET object", exampleRequest("GET", host, "/test.txt", nil,
			"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41", "host;range;x-amz-content-sha256;x-amz-date",
			"Range", "bytes=0-9", "X-Amz-Content-Sha256", emptySHA256), "/test.txt"},
		{"PUT object", exampleRequest("PUT", host, "/test%24file.text", strings.NewReader("Welcome to Amazon S3."),
			"98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd", "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
			"Date", "Fri, 24 May 2013 00:00:00 GMT", "X-Amz-Storage-Class", "REDUCED_REDUNDANCY",
			"X-Amz-Content-Sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"), "/test$file.text"},
		{"GET bucket lifecycle", exampleRequest("GET", host, "/?lifecycle", nil,
			"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543", "host;x-amz-content-sha256;x-amz-date",
			"X-Amz-Content-Sha256", emptySHA256), "/"},
		{"List objects", exampleRequest("GET", host, "/?max-keys=2&prefix=J", nil,
			"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7", "host;x-amz-content-sha256;x-amz-date",
			"X-Amz-Content-Sha256", emptySHA256), "/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, rawQuery, _ := strings.Cut(c.r.RequestURI, "?")
			q, err := parseQuery(rawQuery)
			if err != nil {
				t.Fatal(err)
			}
			g, err := d.authenticate(c.r, &target{path: c.pathTaken, query: q})
			if err != nil || g.who.Subject.ID != "alice" {
				t.Fatalf("who %v, %v", g.who, err)
			}
			if _, err := d.authenticate(c.r, &target{path: c.pathTaken + "x", query: q}); err == nil {
				t.Error("the signature of another path is accepted")
			}
		})
	}
	t.Run("presigned", func(t *testing.T) {
		uri := "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + url.QueryEscape(exampleKey+"/"+exampleScope) +
			"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
		r := httptest.NewRequest("GET", "http://"+host+uri, nil)
		tg, err := parseTarget(uri)
		if err != nil {
			t.Fatal(err)
		}
		if g, err := d.authenticate(r, &tg); err != nil || !g.presigned || g.payload != unsignedPayload {
			t.Fatalf("%+v, %v", g, err)
		}
	})
}

func TestChunkExamples(t *testing.T) {
	d := exampleDoor(t)
	data := bytes.Repeat([]byte("a"), 66560)
	t.Run("signed chunks", func(t *testing.T) {
		r := exampleRequest("PUT", "s3.amazonaws.com", "/examplebucket/chunkObject.txt", nil,
			"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
			"content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
			"Content-Encoding", "aws-chunked", "Content-Length", "66824", "X-Amz-Content-Sha256", signedChunks,
			"X-Amz-Decoded-Content-Length", "66560", "X-Amz-Storage-Class", "REDUCED_REDUNDANCY")
		g := authenticated(t, d, r)
		wire := chunkOf(data[:65536], "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648") +
			chunkOf(data[65536:], "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497") +
			chunkOf(nil, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9")
		if len(wire) != 66824 {
			t.Fatalf("the example's body has %d bytes", len(wire))
		}
		got, err := io.ReadAll(newChunkReader(strings.NewReader(wire), &g.chain, nil))
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("signed trailer", func(t *testing.T) {
		r := exampleRequest("PUT", "s3.amazonaws.com", "/examplebucket/chunkObject.txt", nil,
			"106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
			"content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer",
			"Content-Encoding", "aws-chunked", "X-Amz-Content-Sha256", signedTrailer,
			"X-Amz-Decoded-Content-Length", "66560", "X-Amz-Storage-Class", "REDUCED_REDUNDANCY", "X-Amz-Trailer", "x-amz-checksum-crc32c")
		g := authenticated(t, d, r)
		wire := chunkOf(data[:65536], "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2") +
			chunkOf(data[65536:], "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7") +
			"0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n" +
			"x-amz-checksum-crc32c:sOO8/Q==\r\n" +
			"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
		c := newChunkReader(strings.NewReader(wire), &g.chain, []string{"x-amz-checksum-crc32c"})
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, data) || c.trailers["x-amz-checksum-crc32c"] != "sOO8/Q==" {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	})
}

func authenticated(t *testing.T, d *Door, r *http.Request) grant {
	t.Helper()
	tg, err := parseTarget(r.RequestURI)
	if err != nil {
		t.Fatal(err)
	}
	g, err := d.authenticate(r, &tg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func chunkOf(data []byte, signature string) string {
	return fmt.Sprintf("%x;chunk-signature=%s\r\n%s\r\n", len(data), signature, data)
}

func TestRefusedSignatures(t *testing.T) {
	shift := time.Duration(0)
	l := newLab(t, withClock(func() time.Time { return time.Now().Add(shift) }))
	l.put("ward", "a.csv", "x,y\n")
	get := func() *http.Request { return signed(l.request("GET", "/ward/a.csv", nil)) }
	l.send(get()).want(t, 200, "")

	for _, c := range []struct {
		name   string
		r      func() *http.Request
		status int
		code   string
	}{
		{"anonymous", func() *http.Request { return l.request("GET", "/ward/a.csv", nil) }, 403, "AccessDenied"},
		{"wrong secret", func() *http.Request {
			return signer.SignV4(*l.request("GET", "/ward/a.csv", nil), testKey, "not the secret", "", "us-east-1")
		}, 403, "SignatureDoesNotMatch"},
		{"unknown key", func() *http.Request {
			return signer.SignV4(*l.request("GET", "/ward/a.csv", nil), "AKIANOBODY", testSecret, "", "us-east-1")
		}, 403, "InvalidAccessKeyId"},
		{"session token", func() *http.Request {
			return signer.SignV4(*l.request("GET", "/ward/a.csv", nil), testKey, testSecret, "token", "us-east-1")
		}, 400, "InvalidToken"},
		{"other region", func() *http.Request {
			return signer.SignV4(*l.request("GET", "/ward/a.csv", nil), testKey, testSecret, "", "eu-west-1")
		}, 400, "AuthorizationHeaderMalformed"},
		{"signature version 2", func() *http.Request {
			r := l.request("GET", "/ward/a.csv", nil)
			r.Header.Set("Authorization", "AWS "+testKey+":c2lnbmF0dXJl")
			return r
		}, 400, "InvalidRequest"},
		{"both ways at once", func() *http.Request {
			r := signer.PreSignV4(*l.request("GET", "/ward/a.csv", nil), testKey, testSecret, "", "us-east-1", 60)
			r.Header.Set("Authorization", get().Header.Get("Authorization"))
			return r
		}, 400, "InvalidArgument"},
		{"replayed on another path", func() *http.Request { r := get(); r.URL.Path = "/ward/b.csv"; return r }, 403, "SignatureDoesNotMatch"},
		{"replayed with another method", func() *http.Request { r := get(); r.Method = "DELETE"; return r }, 403, "SignatureDoesNotMatch"},
		{"replayed with a query", func() *http.Request { r := get(); r.URL.RawQuery = "response-content-type=text/html"; return r }, 403, "SignatureDoesNotMatch"},
		{"unsigned x-amz- header added", func() *http.Request { r := get(); r.Header.Set("X-Amz-Copy-Source", "/ward/b.csv"); return r }, 403, "AccessDenied"},
		{"header twice", func() *http.Request { r := get(); r.Header.Add("X-Amz-Date", r.Header.Get("X-Amz-Date")); return r }, 400, "InvalidRequest"},
		{"no payload digest", func() *http.Request {
			r := l.request("GET", "/ward/a.csv", nil)
			r.Header.Del("X-Amz-Content-Sha256")
			r = signer.SignV4(*r, testKey, testSecret, "", "us-east-1")
			r.Header.Del("X-Amz-Content-Sha256")
			return r
		}, 400, "InvalidRequest"},
		{"date of the scope is another", func() *http.Request {
			r := get()
			r.Header.Set("X-Amz-Date", time.Now().UTC().AddDate(0, 0, -1).Format(amzTime))
			return r
		}, 400, "AuthorizationHeaderMalformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(l.mem.recorded())
			l.send(c.r()).want(t, c.status, c.code)
			if all := l.mem.recorded(); len(all) != before+1 {
				t.Error("the refusal was not recorded")
			} else if r := all[before]; r.Code != c.code || r.Bucket != "ward" {
				t.Errorf("recorded %+v", r)
			}
		})
	}
	t.Run("clocks", func(t *testing.T) {
		defer func() { shift = 0 }()
		for _, c := range []struct {
			shift  time.Duration
			status int
			code   string
		}{{14 * time.Minute, 200, ""}, {-14 * time.Minute, 200, ""}, {16 * time.Minute, 403, "RequestTimeTooSkewed"}, {-16 * time.Minute, 403, "RequestTimeTooSkewed"}} {
			shift = c.shift
			l.send(get()).want(t, c.status, c.code)
		}
	})
	t.Run("presigned", func(t *testing.T) {
		defer func() { shift = 0 }()
		sign := func(seconds int64) *http.Request {
			r := l.request("GET", "/ward/a.csv", nil)
			r.Header.Del("X-Amz-Content-Sha256")
			return signer.PreSignV4(*r, testKey, testSecret, "", "us-east-1", seconds)
		}
		for _, c := range []struct {
			seconds int64
			shift   time.Duration
			status  int
			code    string
		}{
			{60, 0, 200, ""}, {604800, 6 * 24 * time.Hour, 200, ""},
			{60, 62 * time.Second, 403, "AccessDenied"},
			{60, -16 * time.Minute, 403, "AccessDenied"}, // not yet valid
			{0, 0, 400, "AuthorizationQueryParametersError"},
			{604801, 0, 400, "AuthorizationQueryParametersError"},
			{-5, 0, 400, "AuthorizationQueryParametersError"},
		} {
			shift = c.shift
			r := sign(c.seconds)
			l.send(r).want(t, c.status, c.code)
			if c.status == 200 { // within its time a presigned URL may be used again, as on S3
				l.send(r).want(t, 200, "")
			}
		}
		shift = 0
		r := sign(60)
		r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "X-Amz-Expires=60", "X-Amz-Expires=90000", 1)
		l.send(r).want(t, 403, "SignatureDoesNotMatch")
		r = sign(60)
		r.URL.RawQuery += "&X-Amz-Expires=90000"
		l.send(r).want(t, 400, "InvalidArgument")
		r = sign(60)
		r.Method = "PUT"
		l.send(r).want(t, 403, "SignatureDoesNotMatch")
	})
	l.mem.unrecorded = errors.New("disk full")
	l.send(l.request("GET", "/ward/a.csv", nil)).want(t, 503, "ServiceUnavailable")
	if strings.Contains(l.log.String(), testSecret) {
		t.Error("the log holds the secret")
	}
}

// sessions are keys that need a token.
type sessions struct{ *memory }

func (s sessions) LookupSession(key, token string) (string, gateway.Access, error) {
	if token != "the token" {
		return "", gateway.Access{}, sallyport.Errorf("look up", sallyport.Denied, "", "wrong token")
	}
	return s.Lookup(key)
}

func TestSessionTokens(t *testing.T) {
	l := newLab(t, func(p *Parts) { p.Keys = sessions{p.Keys.(*memory)} })
	l.put("ward", "a.csv", "x")
	for token, code := range map[string]string{"the token": "", "another": "InvalidAccessKeyId"} {
		status := map[string]int{"": 200, "InvalidAccessKeyId": 403}[code]
		l.send(signer.SignV4(*l.request("GET", "/ward/a.csv", nil), testKey, testSecret, token, "us-east-1")).want(t, status, code)
		r := l.request("GET", "/ward/a.csv", nil)
		r.Header.Del("X-Amz-Content-Sha256")
		l.send(signer.PreSignV4(*r, testKey, testSecret, token, "us-east-1", 60)).want(t, status, code)
	}
}

func TestClaims(t *testing.T) {
	good := []string{exampleKey + "/" + exampleScope, "host;x-amz-date", emptySHA256}
	if _, what := newClaim(good[0], good[1], good[2]); what != "" {
		t.Fatal(what)
	}
	for _, c := range []struct {
		part int
		text string
	}{
		{0, exampleKey + "/20130524/us-east-1/s3"}, {0, "a b/" + exampleScope}, {0, "/" + exampleScope}, {0, exampleKey + "/2013524/us-east-1/s3/aws4_request"},
		{0, exampleKey + "/20130532/us-east-1/s3/aws4_request"}, {0, exampleKey + "/20130524/us-east-1/sts/aws4_request"}, {0, exampleKey + "/20130524//s3/aws4_request"},
		{0, exampleKey + "/20130524/us-east-1/s3/aws4"}, {0, ""},
		{1, ""}, {1, "x-amz-date;host"}, {1, "host;host"}, {1, "Host"}, {1, "host;"}, {1, "ho st"}, {1, strings.Repeat("a;", 99) + "a"},
		{2, ""}, {2, "zz"}, {2, emptySHA256[:62]}, {2, emptySHA256 + "00"}, {2, strings.ToUpper(emptySHA256)},
	} {
		bad := slices.Clone(good)
		bad[c.part] = c.text
		if _, what := newClaim(bad[0], bad[1], bad[2]); what == "" {
			t.Errorf("taken: %q", bad)
		}
	}
}

// TestDateHeader: without x-amz-date, a signed Date header says when.
func TestDateHeader(t *testing.T) {
	d := exampleDoor(t)
	r := httptest.NewRequest("GET", "/ward", nil)
	r.Header.Set("Date", "Fri, 24 May 2013 00:00:00 GMT")
	when, err := d.checkTime(r, &claim{date: "20130524", headers: []string{"date", "host"}}, "", 0)
	if err != nil || !when.Equal(time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)) {
		t.Error(when, err)
	}
	if _, err := d.checkTime(r, &claim{date: "20130524", headers: []string{"host"}}, "", 0); err == nil {
		t.Error("an unsigned date is taken")
	}
}
