package s3door

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport"
	"sallyport/gateway"
)

// day is when everything in memory was modified.
var day = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// memory is a Views, Multipart, Recorder and Keys over maps.
type memory struct {
	mu         sync.Mutex
	buckets    map[string]map[string][]byte
	denied     map[string]string // bucket: reason
	keys       map[string]string // access key: secret
	uploads    map[string]map[int][]byte
	refusals   []Refusal
	unrecorded error                          // what Refused answers
	fail       error                          // what every view answers, if set
	reader     func(data []byte) io.ReaderAt  // nil: the bytes
	asked      []string                       // prefixes asked for
	closed     int                            // objects closed
	onClose    func()                         // called by each, if set
	putting    func(body io.Reader) io.Reader // wraps uploads
}

const (
	testKey    = "AKIASALLYPORT"
	testSecret = "a-secret-of-the-tests"
)

func newMemory() *memory {
	return &memory{
		buckets: map[string]map[string][]byte{"ward": {}, "inbox": {}},
		denied:  map[string]string{}, keys: map[string]string{testKey: testSecret}, uploads: map[string]map[int][]byte{},
	}
}

func (m *memory) Lookup(key string) (string, gateway.Access, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.keys[key]
	if !ok {
		return "", gateway.Access{}, sallyport.Errorf("look up", sallyport.NotFound, "", "no such key")
	}
	return s, gateway.Access{Subject: gateway.Subject{ID: "alice"}, Project: "pilot", Purpose: "research"}, nil
}

func (m *memory) revoke(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keys, key)
}

func (m *memory) Refused(_ context.Context, r Refusal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refusals = append(m.refusals, r)
	return m.unrecorded
}

func (m *memory) Datasets(context.Context, gateway.Access) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for b := range m.buckets {
		out = append(out, b)
	}
	return out, m.fail
}

func (m *memory) enter(who gateway.Access, bucket string) (map[string][]byte, error) {
	if m.fail != nil {
		return nil, m.fail
	}
	if who.Subject.ID != "alice" {
		return nil, sallyport.Errorf("view", sallyport.Internal, "", "nobody asks")
	}
	if reason := m.denied[bucket]; reason != "" {
		return nil, sallyport.Errorf("open view", sallyport.Denied, "Ask the steward.", "%s", reason)
	}
	b, ok := m.buckets[bucket]
	if !ok {
		return nil, sallyport.Errorf("open view", sallyport.NotFound, "", "no dataset %q", bucket)
	}
	return b, nil
}

func info(key string, data []byte) gateway.ObjectInfo {
	sum := md5.Sum(data)
	return gateway.ObjectInfo{Key: key, Size: int64(len(data)), ETag: hex.EncodeToString(sum[:]), Digest: sallyport.DigestOf(data), Modified: day}
}

func (m *memory) Objects(_ context.Context, who gateway.Access, bucket, prefix string) ([]gateway.ObjectInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.enter(who, bucket)
	if err != nil {
		return nil, err
	}
	m.asked = append(m.asked, prefix)
	var out []gateway.ObjectInfo
	for k, data := range b {
		if strings.HasPrefix(k, prefix) {
			out = append(out, info(k, data))
		}
	}
	return out, nil
}

type memoryObject struct {
	io.ReaderAt
	m    *memory
	info gateway.ObjectInfo
}

func (o memoryObject) Info() gateway.ObjectInfo { return o.info }
func (o memoryObject) Close() error {
	o.m.mu.Lock()
	defer o.m.mu.Unlock()
	o.m.closed++
	if o.m.onClose != nil {
		o.m.onClose()
	}
	return nil
}

func (m *memory) Open(_ context.Context, who gateway.Access, bucket, key string) (gateway.ViewObject, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.enter(who, bucket)
	if err != nil {
		return nil, err
	}
	data, ok := b[key]
	if !ok {
		return nil, sallyport.Errorf("open view", sallyport.NotFound, "", "no object %q", key)
	}
	o := memoryObject{bytes.NewReader(data), m, info(key, data)}
	if m.reader != nil {
		o.ReaderAt = m.reader(data)
	}
	return o, nil
}

func (m *memory) Put(_ context.Context, who gateway.Access, bucket, key string, body io.Reader) (gateway.ObjectInfo, error) {
	if m.putting != nil {
		body = m.putting(body)
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return gateway.ObjectInfo{}, sallyport.E("store upload", sallyport.Damaged, err, "")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.enter(who, bucket)
	if err != nil {
		return gateway.ObjectInfo{}, err
	}
	b[key] = data
	return info(key, data), nil
}

func (m *memory) Remove(_ context.Context, who gateway.Access, bucket, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.enter(who, bucket)
	if err != nil {
		return err
	}
	if _, ok := b[key]; !ok {
		return sallyport.Errorf("remove", sallyport.NotFound, "", "no object %q", key)
	}
	delete(b, key)
	return nil
}

func (m *memory) deny(bucket, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.denied[bucket] = reason
}

func (m *memory) count(bucket string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.buckets[bucket])
}

func (m *memory) forget(bucket, key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.buckets[bucket], key)
}

func (m *memory) recorded() []Refusal {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.refusals)
}

func (m *memory) object(bucket, key string) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.buckets[bucket][key]
	return data, ok
}

// staging adds Multipart to memory.
type staging struct{ *memory }

func (m staging) parts(u Upload) (map[int][]byte, error) {
	p, ok := m.uploads[u.ID+"/"+u.Bucket+"/"+u.Key]
	if !ok {
		return nil, sallyport.Errorf("find upload", sallyport.NotFound, "", "no such upload")
	}
	return p, nil
}

func (m staging) CreateUpload(_ context.Context, who gateway.Access, bucket, key string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.enter(who, bucket); err != nil {
		return "", err
	}
	id := fmt.Sprintf("upload-%d", len(m.uploads))
	m.uploads[id+"/"+bucket+"/"+key] = map[int][]byte{}
	return id, nil
}

func (m staging) PutPart(_ context.Context, _ gateway.Access, u Upload, number int, body io.Reader) (Part, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return Part{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.parts(u)
	if err != nil {
		return Part{}, err
	}
	p[number] = data
	return Part{number, info("", data).ETag, int64(len(data))}, nil
}

func (m staging) Parts(_ context.Context, _ gateway.Access, u Upload) ([]Part, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.parts(u)
	var out []Part
	for n, data := range p {
		out = append(out, Part{n, info("", data).ETag, int64(len(data))})
	}
	return out, err
}

func (m staging) CompleteUpload(_ context.Context, _ gateway.Access, u Upload, parts []Part) (gateway.ObjectInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.parts(u)
	if err != nil {
		return gateway.ObjectInfo{}, err
	}
	var all []byte
	for _, part := range parts {
		all = append(all, p[part.Number]...)
	}
	m.buckets[u.Bucket][u.Key] = all
	delete(m.uploads, u.ID+"/"+u.Bucket+"/"+u.Key)
	out := info(u.Key, all)
	out.ETag += fmt.Sprintf("-%d", len(parts))
	return out, nil
}

func (m staging) AbortUpload(_ context.Context, _ gateway.Access, u Upload) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.parts(u); err != nil {
		return err
	}
	delete(m.uploads, u.ID+"/"+u.Bucket+"/"+u.Key)
	return nil
}

var (
	_ Views     = (*memory)(nil)
	_ Recorder  = (*memory)(nil)
	_ Keys      = (*memory)(nil)
	_ Multipart = staging{}
)

func digestHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func sortedKeys(m map[string][]byte) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
