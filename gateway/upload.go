package gateway

import (
	"context"
	"crypto/md5" // S3's ETag, not a seal
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/audit"
	"sallyport/seal"
)

// Scratch is the bucket of a project's own objects; which project's is a
// matter of who asks.
const Scratch = "scratch"

// Inbox is the prefix of a dataset's keys that takes uploads.
const Inbox = "inbox/"

// UploadState is where an upload stands.
type UploadState string

const (
	Quarantined UploadState = "quarantined" // sealed, scanned, seen by nobody until the steward accepts it
	Accepted    UploadState = "accepted"
	Rejected    UploadState = "rejected"
	InScratch   UploadState = "scratch"
)

// Upload is an object that somebody put. Its bytes rest sealed in the hold.
type Upload struct {
	ID      string              `json:"id"`
	Bucket  string              `json:"bucket"` // a dataset, or scratch
	Project string              `json:"project"`
	By      string              `json:"by"`
	Lease   string              `json:"lease"`
	Parcel  sallyport.SealedRef `json:"parcel"`
	Object  ObjectInfo          `json:"object"`
	State   UploadState         `json:"state"`
	Profile *anonymize.Profile  `json:"profile,omitempty"` // what the scan found; holds no value
	Problem string              `json:"problem,omitempty"` // why it could not be scanned
}

// Put takes an upload: into a dataset's inbox, where it stays in quarantine
// until its steward accepts it, or into the project's scratch, within its
// quota. It is encrypted as it arrives, and nothing is visible unless body ends
// cleanly.
func (g *Gateway) Put(ctx context.Context, who Access, bucket, key string, body io.Reader) (ObjectInfo, error) {
	return g.put(ctx, who, bucket, key, body, 0)
}

// put takes an upload; freed bytes of the quota are given back when it is there.
func (g *Gateway) put(ctx context.Context, who Access, bucket, key string, body io.Reader, freed int64) (ObjectInfo, error) {
	p := g.viewer(who, bucket)
	p.job.ID = sallyport.JobID(newID("up"))
	u, err := g.receive(ctx, p, who, bucket, key, body, freed)
	if recErr := g.recordUpload(ctx, p, "put", u, err); recErr != nil {
		return ObjectInfo{}, errors.Join(err, recErr)
	}
	return u.Object, err
}

func (g *Gateway) receive(ctx context.Context, p *passage, who Access, bucket, key string, body io.Reader, freed int64) (Upload, error) {
	u := Upload{ID: string(p.job.ID), Bucket: bucket, Project: who.Project, By: who.Subject.ID, State: InScratch}
	if bucket != Scratch {
		u.State = Quarantined
	}
	if err := g.mayPut(ctx, p, who, bucket, key); err != nil {
		return u, err
	}
	e := p.entry("put", audit.Intent)
	e.Decision = "allow"
	if err := p.record(ctx, e); err != nil {
		return u, err
	}
	room, err := g.room(who, bucket)
	if err != nil {
		return u, err
	}
	lease, err := g.parts.Issuer.Issue(ctx, "upload/"+u.ID, g.parts.UploadTTL)
	if err != nil {
		return u, err
	}
	u.Lease = lease.ID
	room += freed
	sum, tag := sha256.New(), md5.New() // S3's ETag, not a seal
	in := &counted{r: io.TeeReader(body, io.MultiWriter(sum, tag)), left: room}
	u.Parcel, err = SealTo(ctx, g.parts.Hold, uploadRef(g.parts.HoldName, u.ID), lease.Recipient, lease.Until,
		func(w io.Writer) error {
			_, err := io.Copy(w, in)
			return err
		})
	if err != nil {
		return u, errors.Join(err, g.parts.Issuer.Destroy(context.WithoutCancel(ctx), u.Lease, "upload failed"))
	}
	undo := func(err error) error { // it was never there
		gone := context.WithoutCancel(ctx)
		return errors.Join(err, g.parts.Issuer.Destroy(gone, u.Lease, "upload failed"), g.parts.Hold.Remove(gone, u.Parcel.Ref))
	}
	d := sallyport.DigestSum(sum.Sum(nil))
	u.Object = ObjectInfo{Key: key, Size: in.n, Digest: d, ETag: hex.EncodeToString(tag.Sum(nil)), Modified: g.now().UTC()}
	if u.State == Quarantined { // a steward will look at it
		if u.Profile, u.Problem, err = g.scan(ctx, u); err != nil {
			return u, undo(err)
		}
	}
	quota := int64(0)
	if bucket == Scratch {
		quota = g.parts.ScratchQuota
	}
	old, err := g.journal.replaceUpload(u, quota)
	if err != nil {
		return u, undo(err)
	}
	for _, o := range old { // the last writer wins, and the older object's key ends
		if err := g.drop(ctx, o, "replaced"); err != nil {
			return u, err
		}
	}
	return u, nil
}

func (u Upload) live() bool { return u.State == Quarantined || u.State == InScratch }

// mayPut says whether the caller may put an object of that name.
func (g *Gateway) mayPut(ctx context.Context, p *passage, who Access, bucket, key string) error {
	if bucket != Scratch && (!strings.HasPrefix(key, Inbox) || key == Inbox) {
		return sallyport.Errorf("put", sallyport.Denied, "Put it under "+Inbox+", or into the bucket "+Scratch+".",
			"a dataset takes uploads under %s only", Inbox)
	}
	return g.mayUpload(ctx, p, who, bucket)
}

// mayUpload asks door 1. For scratch, being somebody of the project is enough.
func (g *Gateway) mayUpload(ctx context.Context, p *passage, who Access, bucket string) error {
	if bucket == Scratch {
		return member(who)
	}
	var o outcome
	_, err := p.ask(ctx, p.job.Request, viewer("upload"), &o)
	return err
}

// member says whether the caller still is of the project that they ask for: a
// key may be older than the answer.
func member(who Access) error {
	if who.Project == "" || !slices.Contains(who.Subject.Projects, who.Project) {
		return sallyport.Errorf("scratch", sallyport.Denied, "", "%s is not a member of project %q", who.Subject.ID, who.Project)
	}
	return nil
}

// room is how many bytes may still be put.
func (g *Gateway) room(who Access, bucket string) (int64, error) {
	limit := g.parts.UploadLimit
	if bucket != Scratch {
		return limit, nil
	}
	list, err := g.uploads(func(u Upload) bool { return u.Bucket == Scratch && u.Project == who.Project && u.live() })
	if err != nil {
		return 0, err
	}
	room := g.parts.ScratchQuota
	for _, u := range list {
		room -= u.Object.Size
	}
	staged, err := g.journal.stagings()
	if err != nil {
		return 0, err
	}
	for _, s := range staged {
		if s.Bucket == Scratch && s.Project == who.Project {
			room -= s.stored()
		}
	}
	return max(0, min(limit, room)), nil
}

// scan profiles what rests sealed in the hold, since not every format can be
// read as it comes. A file that cannot be scanned is kept all the same: the
// steward is told why.
func (g *Gateway) scan(ctx context.Context, u Upload) (*anonymize.Profile, string, error) {
	obj, err := g.openSealed(ctx, u.Lease, u.Parcel, u.Object)
	if err != nil {
		return nil, "", err
	}
	defer obj.Close()
	src := io.NewSectionReader(obj, 0, u.Object.Size)
	head := make([]byte, anonymize.HeadSize)
	n, err := src.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	f, err := g.parts.Runner.Sniff(head[:n])
	if err != nil {
		return nil, "not a format that this gateway reads", nil
	}
	prof, err := anonymize.Scan(ctx, f, src, 0)
	switch {
	case ctx.Err() != nil:
		return nil, "", ctx.Err()
	case err != nil:
		return nil, err.Error(), nil
	}
	return &prof, "", nil
}

// counted stops at a limit.
type counted struct {
	r       io.Reader
	n, left int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	if c.n > c.left {
		return 0, sallyport.Errorf("put", sallyport.Exhausted, "Remove what is not needed, or ask for a larger quota.", "more than the %d bytes that may be put", c.left)
	}
	return n, err
}

// Remove removes an object of the project's scratch, or an upload of the
// caller's own that is still in quarantine. Datasets themselves are not removed
// through doors.
func (g *Gateway) Remove(ctx context.Context, who Access, bucket, key string) error {
	p := g.viewer(who, bucket)
	list, err := g.uploads(func(u Upload) bool {
		return u.Bucket == bucket && u.Project == who.Project && u.Object.Key == key && u.live() && (bucket == Scratch || u.By == who.Subject.ID)
	})
	if err == nil && bucket != Scratch && len(list) == 0 {
		err = sallyport.Errorf("remove", sallyport.Denied, "", "only an own upload that is still in quarantine can be removed")
	}
	if err == nil {
		err = g.mayUpload(ctx, p, who, bucket)
	}
	p.job.ID = sallyport.JobID(newID("rm"))
	if err == nil {
		err = p.record(ctx, p.entry("remove", audit.Intent))
	}
	for _, u := range list {
		if err == nil {
			err = g.drop(ctx, u, "removed by "+who.Subject.ID)
		}
	}
	return errors.Join(err, g.recordUpload(ctx, p, "remove", Upload{Object: ObjectInfo{Key: key}}, err))
}

// scratch finds objects of the caller's scratch.
func (g *Gateway) scratch(who Access, prefix string) ([]Upload, error) {
	if err := member(who); err != nil {
		return nil, err
	}
	list, err := g.uploads(func(u Upload) bool {
		return u.Bucket == Scratch && u.Project == who.Project && u.live() && strings.HasPrefix(u.Object.Key, prefix)
	})
	slices.SortFunc(list, func(a, b Upload) int { return strings.Compare(a.Object.Key, b.Object.Key) })
	return list, err
}

// openSealed opens what rests sealed in the hold.
func (g *Gateway) openSealed(ctx context.Context, lease string, parcel sallyport.SealedRef, info ObjectInfo) (ViewObject, error) {
	k, err := g.parts.Issuer.Fetch(ctx, lease)
	if err != nil {
		return nil, err
	}
	obj, err := g.parts.Hold.Open(ctx, parcel.Ref)
	if err != nil {
		return nil, err
	}
	plain, size, err := seal.ReaderAt(obj, obj.Info().Size, k)
	if err == nil && size != info.Size {
		err = sallyport.Errorf("open", sallyport.Damaged, "", "what rests in the hold is not what was sealed")
	}
	if err != nil {
		obj.Close()
		return nil, err
	}
	return &viewObject{plain, obj, info}, nil
}

// Quarantine returns every upload that waits for a steward, oldest first.
func (g *Gateway) Quarantine() ([]Upload, error) {
	return g.uploads(func(u Upload) bool { return u.State == Quarantined })
}

// Accept takes an upload out of quarantine: it is opened into the store of the
// dataset it was put to, and described as a dataset of its own, which inherits
// the class, purposes and residency.
func (g *Gateway) Accept(ctx context.Context, steward Subject, upload, id string) (sallyport.Dataset, error) {
	var none sallyport.Dataset
	u, err := g.quarantined(upload)
	if err != nil {
		return none, err
	}
	if u.Profile == nil {
		return none, sallyport.Errorf("accept", sallyport.Invalid, "Reject it, and ask for a file of a known format.", "upload %s could not be scanned: %s", u.ID, u.Problem)
	}
	parent, err := g.parts.Catalog.Get(u.Bucket)
	if err != nil {
		return none, err
	}
	if _, err := g.parts.Catalog.Get(id); err == nil {
		return none, sallyport.Errorf("accept", sallyport.Conflict, "Choose another name.", "dataset %q exists already", id)
	}
	src, err := g.source(parent)
	if err != nil {
		return none, err
	}
	p := &passage{g: g, view: "accept", job: Job{Request: Request{ID: sallyport.JobID(u.ID), Subject: steward, Dataset: u.Bucket, Project: u.Project}}}
	if err := p.record(ctx, p.entry("accept", audit.Intent)); err != nil {
		return none, err
	}
	ref := sallyport.Ref{Store: parent.Location.Store, Key: path.Join("accepted", id+path.Ext(u.Object.Key))}
	err = func() error {
		obj, err := g.openSealed(ctx, u.Lease, u.Parcel, u.Object)
		if err != nil {
			return err
		}
		defer obj.Close()
		_, err = src.Put(ctx, ref, func(w io.Writer) error {
			_, err := io.Copy(w, io.NewSectionReader(obj, 0, u.Object.Size))
			return err
		})
		return err
	}()
	d := u.Profile.Propose(id, steward.ID, ref)
	d.Sensitivity, d.Purposes, d.Residency = parent.Sensitivity, parent.Purposes, parent.Residency
	if err == nil {
		if _, err = g.parts.Catalog.Add(d); err == nil {
			err = g.showPolicy(ctx)
		}
	}
	if err == nil {
		u.State = Accepted
		err = g.drop(ctx, u, "accepted by "+steward.ID)
	}
	return d, errors.Join(err, g.recordUpload(ctx, p, "accept", u, err))
}

// Reject ends an upload: its key is destroyed, its ciphertext removed.
func (g *Gateway) Reject(ctx context.Context, steward Subject, upload, reason string) error {
	u, err := g.quarantined(upload)
	if err != nil {
		return err
	}
	p := &passage{g: g, view: "reject", job: Job{Request: Request{ID: sallyport.JobID(u.ID), Subject: steward, Dataset: u.Bucket, Project: u.Project}}}
	if err := p.record(ctx, p.entry("reject", audit.Intent)); err != nil {
		return err
	}
	u.State, u.Problem = Rejected, reason
	err = g.drop(ctx, u, "rejected by "+steward.ID)
	return errors.Join(err, g.recordUpload(ctx, p, "reject", u, err))
}

func (g *Gateway) quarantined(id string) (Upload, error) {
	list, err := g.uploads(func(u Upload) bool { return u.ID == id && u.State == Quarantined })
	if err == nil && len(list) == 0 {
		err = sallyport.Errorf("upload", sallyport.NotFound, "`sallyport dataset inbox` lists them.", "no upload %q in quarantine", id)
	}
	if err != nil {
		return Upload{}, err
	}
	return list[0], nil
}

// drop ends an upload's key and removes its ciphertext; its record stays where
// a steward decided about it.
func (g *Gateway) drop(ctx context.Context, u Upload, why string) error {
	if err := g.parts.Issuer.Destroy(ctx, u.Lease, why); err != nil {
		return err
	}
	if err := g.parts.Hold.Remove(ctx, u.Parcel.Ref); err != nil {
		return err
	}
	if u.live() {
		return g.journal.removeUpload(u.ID)
	}
	return g.journal.putUpload(u)
}

// recordUpload records the outcome of an act on an upload.
func (g *Gateway) recordUpload(ctx context.Context, p *passage, step string, u Upload, err error) error {
	return g.recordAbout(ctx, p, step, audit.Outcome, u, err)
}

// noteScratch records a look at the project's scratch, before any of it leaves.
func (g *Gateway) noteScratch(ctx context.Context, p *passage, step string, u Upload, err error) error {
	p.job.ID = sallyport.JobID(u.ID)
	return g.recordAbout(ctx, p, step, audit.Note, u, err)
}

func (g *Gateway) recordAbout(ctx context.Context, p *passage, step string, phase audit.Phase, u Upload, err error) error {
	var o outcome
	o.Lease = u.Lease
	o.Decision = "allow"
	if err != nil {
		o.Decision, o.Reasons = "error", []string{err.Error()}
		if sallyport.KindOf(err) == sallyport.Denied {
			o.Decision = "deny"
		}
	}
	o.Facts = map[string]any{"upload": u.ID, "object": u.Object, "state": u.State, "problem": u.Problem}
	e, entryErr := o.entry(p.entry(step, phase), nil)
	if entryErr != nil {
		return entryErr
	}
	return p.record(ctx, e)
}

// sweepUnfinished ends the keys of uploads that a crash cut short.
func (g *Gateway) sweepUnfinished(ctx context.Context) error {
	all, err := g.journal.uploads()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, u := range all {
		known[u.ID] = true
	}
	staged, err := g.journal.stagings()
	if err != nil {
		return err
	}
	for _, s := range staged {
		known[s.ID] = true
	}
	leases, err := g.parts.Issuer.List(ctx)
	if err != nil {
		return err
	}
	for _, l := range leases {
		id, ok := strings.CutPrefix(l.Release, "upload/")
		if !ok || l.Destroyed != nil || known[id] {
			continue
		}
		p := &passage{g: g, view: "expire", job: Job{Request: Request{ID: sallyport.JobID(id)}}}
		if err := p.record(ctx, p.entry("expire", audit.Intent)); err != nil {
			return err
		}
		u := Upload{ID: id, Lease: l.ID, State: Rejected, Parcel: sallyport.SealedRef{Ref: uploadRef(g.parts.HoldName, id)}}
		if err := errors.Join(g.parts.Issuer.Destroy(ctx, l.ID, "upload was never finished"), g.parts.Hold.Remove(ctx, u.Parcel.Ref),
			g.recordUpload(ctx, p, "expire", u, nil)); err != nil {
			return err
		}
	}
	return nil
}

func uploadRef(hold, id string) sallyport.Ref {
	return sallyport.Ref{Store: hold, Key: "uploads/" + id + ".age"}
}

// sweepUploads drops uploads whose key's time has come.
func (g *Gateway) sweepUploads(ctx context.Context) error {
	list, err := g.uploads(func(u Upload) bool { return u.live() && !g.now().Before(u.Parcel.Until) })
	if err != nil {
		return err
	}
	staged, err := g.journal.stagings()
	if err != nil {
		return err
	}
	for _, s := range staged { // a multipart upload that nobody completes ends with its key
		if _, err := g.parts.Issuer.Fetch(ctx, s.Lease); sallyport.KindOf(err) == sallyport.NotFound {
			if err := g.forgetStaging(ctx, s, "lease ran out"); err != nil {
				return err
			}
		}
	}
	for _, u := range list {
		p := &passage{g: g, view: "expire", job: Job{Request: Request{ID: sallyport.JobID(u.ID), Dataset: u.Bucket, Project: u.Project}}}
		if err := p.record(ctx, p.entry("expire", audit.Intent)); err != nil {
			return err
		}
		if err := errors.Join(g.drop(ctx, u, "lease ran out"), g.recordUpload(ctx, p, "expire", u, nil)); err != nil {
			return err
		}
	}
	return nil
}

func (g *Gateway) uploads(want func(Upload) bool) ([]Upload, error) {
	all, err := g.journal.uploads()
	return slices.DeleteFunc(all, func(u Upload) bool { return !want(u) }), err
}

func (j *Journal) uploads() ([]Upload, error) {
	var out []Upload
	err := j.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(uploadsBucket)
		if b == nil {
			return nil
		}
		return b.ForEach(func(_, v []byte) error {
			var u Upload
			if err := json.Unmarshal(v, &u); err != nil {
				return err
			}
			out = append(out, u)
			return nil
		})
	})
	if err != nil {
		return nil, sallyport.E("journal", sallyport.Damaged, err, "")
	}
	return out, nil
}

func (j *Journal) putUpload(u Upload) error {
	v, err := json.Marshal(u)
	if err != nil {
		return sallyport.E("journal", sallyport.Internal, err, "")
	}
	err = j.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(uploadsBucket).Put([]byte(u.ID), v) })
	if err != nil {
		return journalError(err)
	}
	return nil
}

// replaceUpload keeps an upload and forgets, in the same transaction, those of
// the same name: of two writers of one key the last wins, and one object is
// there. What it forgot is returned, to be dropped. Objects of one project that
// would take more than quota bytes together are a sallyport.Exhausted: writers
// at the same time each saw room for themselves alone. 0 is no quota.
func (j *Journal) replaceUpload(u Upload, quota int64) (old []Upload, err error) {
	v, err := json.Marshal(u)
	if err != nil {
		return nil, sallyport.E("journal", sallyport.Internal, err, "")
	}
	err = j.db.Update(func(tx *bolt.Tx) error {
		old = nil
		total := u.Object.Size
		b := tx.Bucket(uploadsBucket)
		err := b.ForEach(func(_, v []byte) error {
			var o Upload
			if err := json.Unmarshal(v, &o); err != nil {
				return err
			}
			if o.Bucket == u.Bucket && o.Project == u.Project && o.live() {
				if o.Object.Key == u.Object.Key {
					old = append(old, o)
				} else {
					total += o.Object.Size
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if quota > 0 && total > quota {
			return sallyport.Errorf("put", sallyport.Exhausted, "Remove what is not needed, or ask for a larger quota.", "more than the %d bytes that the project may keep", quota)
		}
		for _, o := range old {
			if err := b.Delete([]byte(o.ID)); err != nil {
				return err
			}
		}
		return b.Put([]byte(u.ID), v)
	})
	if e, ok := errors.AsType[*sallyport.Error](err); ok {
		return nil, e
	}
	if err != nil {
		return nil, journalError(err)
	}
	return old, nil
}

// newID names something that nobody else named, whatever the clock says.
func newID(kind string) string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails
	return kind + "-" + hex.EncodeToString(b[:])
}

func (j *Journal) removeUpload(id string) error {
	err := j.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(uploadsBucket).Delete([]byte(id)) })
	if err != nil {
		return journalError(err)
	}
	return nil
}

// uploadTTL is how long an upload's key lives if Parts say nothing.
const uploadTTL = 30 * 24 * time.Hour
