package gateway

import (
	"context"
	"crypto/md5" // S3's ETag, not a seal
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	bolt "go.etcd.io/bbolt"

	"sallyport"
	"sallyport/audit"
)

// PartInfo is one stored part of a multipart upload.
type PartInfo struct {
	Number int                 `json:"number"`
	ETag   string              `json:"etag"` // MD5 of the part, hexadecimal
	Size   int64               `json:"size"` // bytes
	Parcel sallyport.SealedRef `json:"parcel"`
}

// staging is a multipart upload in progress. Its parts rest sealed, all to one
// key, and nobody can read them before the upload is complete.
type staging struct {
	ID      string           `json:"id"`
	Bucket  string           `json:"bucket"`
	Key     string           `json:"key"`
	Project string           `json:"project"`
	By      string           `json:"by"`
	Lease   string           `json:"lease"`
	To      string           `json:"to"` // recipient of the lease's key
	Parts   map[int]PartInfo `json:"parts"`
}

func (s staging) stored() int64 {
	var n int64
	for _, p := range s.Parts {
		n += p.Size
	}
	return n
}

// CreateMultipart begins an upload in parts.
func (g *Gateway) CreateMultipart(ctx context.Context, who Access, bucket, key string) (string, error) {
	p := g.viewer(who, bucket)
	if err := g.mayPut(ctx, p, who, bucket, key); err != nil {
		return "", errors.Join(err, g.recordUpload(ctx, p, "put", Upload{Object: ObjectInfo{Key: key}}, err))
	}
	p.job.ID = sallyport.JobID(newID("mp"))
	e := p.entry("begin upload", audit.Note)
	e.Decision = "allow"
	if err := p.record(ctx, e); err != nil {
		return "", err
	}
	s := staging{ID: string(p.job.ID), Bucket: bucket, Key: key, Project: who.Project, By: who.Subject.ID, Parts: map[int]PartInfo{}}
	lease, err := g.parts.Issuer.Issue(ctx, "upload/"+s.ID, g.parts.UploadTTL)
	if err != nil {
		return "", err
	}
	s.Lease, s.To = lease.ID, lease.Recipient
	return s.ID, g.journal.updateStaging(s.ID, func(old *staging) (*staging, error) { return &s, nil })
}

func partRef(hold, id string, n int) sallyport.Ref {
	return sallyport.Ref{Store: hold, Key: fmt.Sprintf("multipart/%s/%05d.age", id, n)}
}

// PutPart stores a part; one of the same number is replaced.
func (g *Gateway) PutPart(ctx context.Context, who Access, id, bucket, key string, n int, body io.Reader) (PartInfo, error) {
	s, err := g.staged(who, id, bucket, key)
	if err != nil {
		return PartInfo{}, err
	}
	room, err := g.room(who, bucket)
	if err != nil {
		return PartInfo{}, err
	}
	sum := md5.New() // as above
	in := &counted{r: io.TeeReader(body, sum), left: room - s.stored() + s.Parts[n].Size}
	// Each attempt has an object of its own, so that a part that breaks off
	// leaves the stored one whole.
	ref := partRef(g.parts.HoldName, id, n)
	ref.Key += newID("")
	part := PartInfo{Number: n}
	part.Parcel, err = SealTo(ctx, g.parts.Hold, ref, s.To, g.now().Add(g.parts.UploadTTL), func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
	if err != nil {
		return PartInfo{}, err
	}
	part.Size, part.ETag = in.n, hex.EncodeToString(sum.Sum(nil))
	var replaced PartInfo
	err = g.journal.updateStaging(id, func(s *staging) (*staging, error) {
		if s == nil {
			return nil, noUpload(id)
		}
		replaced = s.Parts[n]
		s.Parts[n] = part
		return s, nil
	})
	if err != nil {
		return PartInfo{}, errors.Join(err, g.parts.Hold.Remove(ctx, ref))
	}
	if replaced.Number != 0 {
		err = g.parts.Hold.Remove(ctx, replaced.Parcel.Ref)
	}
	return part, err
}

// MultipartParts returns the stored parts by number.
func (g *Gateway) MultipartParts(_ context.Context, who Access, id, bucket, key string) ([]PartInfo, error) {
	s, err := g.staged(who, id, bucket, key)
	if err != nil {
		return nil, err
	}
	out := make([]PartInfo, 0, len(s.Parts))
	for _, p := range s.Parts {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b PartInfo) int { return a.Number - b.Number })
	return out, nil
}

// CompleteMultipart makes the object out of the parts, in the order given.
func (g *Gateway) CompleteMultipart(ctx context.Context, who Access, id, bucket, key string, parts []PartInfo) (ObjectInfo, error) {
	s, err := g.staged(who, id, bucket, key)
	if err != nil {
		return ObjectInfo{}, err
	}
	whole := &joined{g: g, ctx: ctx, lease: s.Lease}
	defer whole.Close()
	for _, want := range parts {
		have, ok := s.Parts[want.Number]
		if !ok || have.ETag != want.ETag {
			return ObjectInfo{}, sallyport.Errorf("complete upload", sallyport.Conflict, "Upload the part again.", "part %d is not what was stored", want.Number)
		}
		whole.parts = append(whole.parts, have)
	}
	// The parts count against the quota until they are gone; the object takes
	// their place.
	info, err := g.put(ctx, who, bucket, key, whole, s.stored())
	if err != nil {
		return ObjectInfo{}, err
	}
	return info, g.forgetStaging(ctx, s, "upload complete")
}

// AbortMultipart forgets an upload and its parts.
func (g *Gateway) AbortMultipart(ctx context.Context, who Access, id, bucket, key string) error {
	s, err := g.staged(who, id, bucket, key)
	if err != nil {
		return err
	}
	p := g.viewer(who, bucket)
	p.job.ID = sallyport.JobID(id)
	if err := p.record(ctx, p.entry("abort upload", audit.Intent)); err != nil {
		return err
	}
	err = g.forgetStaging(ctx, s, "upload aborted")
	return errors.Join(err, g.recordUpload(ctx, p, "abort upload", Upload{ID: id, Lease: s.Lease, Object: ObjectInfo{Key: key}}, err))
}

func (g *Gateway) forgetStaging(ctx context.Context, s staging, why string) error {
	if err := g.parts.Issuer.Destroy(ctx, s.Lease, why); err != nil {
		return err
	}
	for info, err := range g.parts.Hold.List(ctx, "multipart/"+s.ID+"/") {
		if err != nil {
			return err
		}
		if err := g.parts.Hold.Remove(ctx, info.Ref); err != nil {
			return err
		}
	}
	return g.journal.updateStaging(s.ID, func(*staging) (*staging, error) { return nil, nil })
}

// staged finds an upload of the caller's own: anybody else's is as absent as none.
func (g *Gateway) staged(who Access, id, bucket, key string) (staging, error) {
	if bucket == Scratch {
		if err := member(who); err != nil {
			return staging{}, err
		}
	}
	all, err := g.journal.stagings()
	if err != nil {
		return staging{}, err
	}
	for _, s := range all {
		if s.ID == id && s.Bucket == bucket && s.Key == key && s.Project == who.Project && s.By == who.Subject.ID {
			return s, nil
		}
	}
	return staging{}, noUpload(id)
}

func noUpload(id string) error {
	return sallyport.Errorf("upload", sallyport.NotFound, "", "no upload %q", id)
}

// joined reads the parts one after the other, opening each as it is reached.
type joined struct {
	g     *Gateway
	ctx   context.Context // of one call
	lease string
	parts []PartInfo
	now   io.Reader
	open  io.Closer
}

func (j *joined) Read(b []byte) (int, error) {
	for {
		if j.now == nil {
			if len(j.parts) == 0 {
				return 0, io.EOF
			}
			o, err := j.g.openSealed(j.ctx, j.lease, j.parts[0].Parcel, ObjectInfo{Size: j.parts[0].Size})
			if err != nil {
				return 0, err
			}
			j.now, j.open, j.parts = io.NewSectionReader(o, 0, j.parts[0].Size), o, j.parts[1:]
		}
		n, err := j.now.Read(b)
		if errors.Is(err, io.EOF) {
			j.now, err = nil, j.Close()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Close closes the part that is open.
func (j *joined) Close() error {
	if j.open == nil {
		return nil
	}
	err := j.open.Close()
	j.open = nil
	return err
}

func (j *Journal) stagings() ([]staging, error) {
	var out []staging
	err := j.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(stagingsBucket)
		if b == nil {
			return nil
		}
		return b.ForEach(func(_, v []byte) error {
			var s staging
			if err := json.Unmarshal(v, &s); err != nil {
				return err
			}
			out = append(out, s)
			return nil
		})
	})
	if err != nil {
		return nil, sallyport.E("journal", sallyport.Damaged, err, "")
	}
	return out, nil
}

// updateStaging changes one upload in one transaction: change is given it, nil
// if there is none, and returns what shall be, nil for none.
func (j *Journal) updateStaging(id string, change func(*staging) (*staging, error)) error {
	err := j.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(stagingsBucket)
		var old *staging
		if v := b.Get([]byte(id)); v != nil {
			old = &staging{}
			if err := json.Unmarshal(v, old); err != nil {
				return err
			}
		}
		s, err := change(old)
		if err != nil {
			return err
		}
		if s == nil {
			return b.Delete([]byte(id))
		}
		v, err := json.Marshal(s)
		if err != nil {
			return err
		}
		return b.Put([]byte(id), v)
	})
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*sallyport.Error](err); ok {
		return err
	}
	return journalError(err)
}
