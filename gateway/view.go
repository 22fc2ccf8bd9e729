package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/routing"
	"sallyport/store"
)

// Access is who looks at data through a door, for which project and purpose:
// what an access key or a token is bound to.
type Access struct {
	Subject Subject `json:"subject"`
	Project string  `json:"project"`
	Purpose string  `json:"purpose"`
}

// ObjectInfo describes an object as its viewer sees it: size and ETag are those
// of the view, not of the source.
type ObjectInfo struct {
	Key      string           `json:"key"`
	Size     int64            `json:"size"` // bytes
	ETag     string           `json:"etag"` // without quotes
	Digest   sallyport.Digest `json:"digest"`
	Modified time.Time        `json:"modified"`
}

// ViewObject is an open object of a view. Its bytes passed both doors.
type ViewObject interface {
	io.ReaderAt
	io.Closer
	Info() ObjectInfo
}

// View is a dataset as one project may see it, made once and held sealed. What
// it holds in the journal is no secret.
type View struct {
	ID      sallyport.JobID     `json:"id"`
	Dataset string              `json:"dataset"`
	Project string              `json:"project"`
	Lease   string              `json:"lease"`
	Parcel  sallyport.SealedRef `json:"parcel"`
	Object  ObjectInfo          `json:"object"`
	Made    time.Time           `json:"made"`
	// Source is set for a raw view: policy leaves every byte as it is, so that
	// it is read where it lies, as long as it is what was measured there.
	Source *Pinned `json:"source,omitempty"`

	key string // that it is found by
}

// Pinned is an object of a source as it was when it was measured.
type Pinned struct {
	Ref      sallyport.Ref `json:"ref"`
	Size     int64         `json:"size"`
	Modified time.Time     `json:"modified"`
}

func pinned(i store.Info) Pinned { return Pinned{i.Ref, i.Size, i.Modified.UTC()} }

// viewModule stands for the code of a view in the policy's input: there is none.
const viewModule = "view"

// viewer is the code of a use that runs none: a name, and no runner.
func viewer(name string) routing.Module {
	return routing.Module{Name: name, Digest: sallyport.DigestOf([]byte(name))}
}

// Datasets returns the datasets that the caller may see at all, sorted.
func (g *Gateway) Datasets(ctx context.Context, who Access) ([]string, error) {
	if err := g.refreshCatalog(ctx); err != nil {
		return nil, err
	}
	out := []string{}
	for _, d := range g.parts.Catalog.All() {
		p := g.viewer(who, d.ID)
		var o outcome
		if _, err := p.ask(ctx, p.job.Request, viewer(viewModule), &o); err == nil {
			out = append(out, d.ID)
		} else if sallyport.KindOf(err) != sallyport.Denied {
			return nil, err
		}
	}
	if slices.Contains(who.Subject.Projects, who.Project) {
		out = append(out, Scratch)
		slices.Sort(out)
	}
	p := g.viewer(who, "")
	e := p.entry("list", audit.Note)
	e.Decision = "allow"
	return out, p.record(ctx, e)
}

// Objects returns the objects of a dataset as the caller sees them. The view is
// made if there is none yet, which takes as long as the pass over the data.
func (g *Gateway) Objects(ctx context.Context, who Access, dataset, prefix string) ([]ObjectInfo, error) {
	if dataset == Scratch {
		list, err := g.scratch(who, prefix)
		out := make([]ObjectInfo, 0, len(list))
		for _, u := range list {
			out = append(out, u.Object)
		}
		p := g.viewer(who, Scratch)
		return out, errors.Join(err, g.noteScratch(ctx, p, "list", Upload{}, err))
	}
	v, err := g.look(ctx, who, dataset, "list")
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(v.Object.Key, prefix) {
		return []ObjectInfo{}, nil
	}
	return []ObjectInfo{v.Object}, nil
}

// Open opens an object of a dataset as the caller sees it.
func (g *Gateway) Open(ctx context.Context, who Access, dataset, key string) (ViewObject, error) {
	if dataset == Scratch {
		list, err := g.scratch(who, key)
		for _, u := range list {
			if u.Object.Key == key {
				if err := g.noteScratch(ctx, g.viewer(who, Scratch), "look", u, nil); err != nil {
					return nil, err
				}
				return g.openSealed(ctx, u.Lease, u.Parcel, u.Object)
			}
		}
		if err == nil {
			err = sallyport.Errorf("open", sallyport.NotFound, "", "no object %q in scratch", key)
		}
		return nil, errors.Join(err, g.noteScratch(ctx, g.viewer(who, Scratch), "look", Upload{Object: ObjectInfo{Key: key}}, err))
	}
	for attempt := 1; ; attempt++ {
		v, err := g.look(ctx, who, dataset, "look")
		if err != nil {
			return nil, err
		}
		if v.Object.Key != key {
			return nil, sallyport.Errorf("open", sallyport.NotFound, "", "no object %q in dataset %s", key, dataset)
		}
		o, err := g.openView(ctx, v)
		if sallyport.KindOf(err) != sallyport.NotFound || attempt > 1 {
			return o, err
		}
		// Its key was destroyed in an emergency, or its ciphertext is gone: it
		// is made anew, if both doors still allow.
		if err := g.evict(ctx, v.key, v, "could not be opened"); err != nil {
			return nil, err
		}
	}
}

// openView opens a view in the hold, or a raw one where it lies. NotFound says
// that it must be made anew.
func (g *Gateway) openView(ctx context.Context, v View) (ViewObject, error) {
	if v.Source == nil {
		return g.openSealed(ctx, v.Lease, v.Parcel, v.Object)
	}
	src, ok := g.parts.Sources[v.Source.Ref.Store]
	if !ok {
		return nil, sallyport.Errorf("open", sallyport.NotFound, "", "store %q is not configured any more", v.Source.Ref.Store)
	}
	obj, err := src.Open(ctx, v.Source.Ref)
	if err != nil {
		return nil, err
	}
	if now := pinned(obj.Info()); now.Size != v.Source.Size || !now.Modified.Equal(v.Source.Modified) || now.Ref.Version != v.Source.Ref.Version {
		obj.Close()
		return nil, sallyport.Errorf("open", sallyport.NotFound, "", "dataset %s changed since it was measured", v.Dataset)
	}
	return &viewObject{obj, obj, v.Object}, nil
}

type viewObject struct {
	io.ReaderAt
	under store.Object
	info  ObjectInfo
}

func (o *viewObject) Close() error     { return o.under.Close() }
func (o *viewObject) Info() ObjectInfo { return o.info }

// Prepare makes the caller's view of a dataset ahead of its first use. progress,
// if not nil, is told what happens; it must not block.
func (g *Gateway) Prepare(ctx context.Context, who Access, dataset string, progress func(Event)) (ObjectInfo, error) {
	v, err := g.lookTelling(ctx, who, dataset, "prepare", progress)
	return v.Object, err
}

func (g *Gateway) viewer(who Access, dataset string) *passage {
	return &passage{g: g, view: "asking", job: Job{Request: Request{ID: "view", Subject: who.Subject, Project: who.Project,
		Purpose: who.Purpose, Dataset: dataset, Algorithm: viewModule, Where: sallyport.Local, Trace: newTrace()}}}
}

// look asks door 1 for this access, finds or makes the view that it may have,
// and records the access before any byte of it leaves.
func (g *Gateway) look(ctx context.Context, who Access, dataset, step string) (View, error) {
	return g.lookTelling(ctx, who, dataset, step, nil)
}

func (g *Gateway) lookTelling(ctx context.Context, who Access, dataset, step string, progress func(Event)) (View, error) {
	p := g.viewer(who, dataset)
	p.also = progress
	var o outcome
	a, err := p.ask(ctx, p.job.Request, viewer(viewModule), &o)
	var v View
	if err == nil {
		v, err = g.view(ctx, p, a)
	}
	if err != nil && o.Decision == "allow" {
		o.Decision = "" // door 1 allowed; what stopped it is the error
		if sallyport.KindOf(err) == sallyport.Denied {
			o.Decision, o.Reasons = "deny", []string{err.Error()}
		}
	}
	o.Lease = v.Lease
	if err == nil {
		o.Facts = map[string]any{"asked": o.Facts, "view": v.ID, "object": v.Object}
		o.Objects, o.Result = []string{v.Object.Key}, v.Object.Digest
	}
	e, entryErr := o.entry(p.entry(step, audit.Note), err)
	e.Job = v.ID
	if entryErr != nil {
		return View{}, entryErr
	}
	if recErr := p.record(ctx, e); recErr != nil {
		return View{}, recErr
	}
	return v, err
}

// view returns the live view for what door 1 admitted, made now if need be. A
// view is the same for everybody who may see the same: it is found by the
// version of the source, the plan with its row filters, and the project, whose
// keys its pseudonyms depend on.
func (g *Gateway) view(ctx context.Context, p *passage, a admitted) (View, error) {
	src, err := g.source(a.Dataset)
	if err != nil {
		return View{}, err
	}
	obj, err := src.Open(ctx, a.Dataset.Location)
	if err != nil {
		return View{}, err
	}
	info := obj.Info()
	obj.Close()
	plan, err := json.Marshal([]any{a.Dataset, a.Admit.Obligations, a.Admit.Rows, a.Admit.Limits, a.Admit.Policy, info.Ref.Version, info.Size, info.Modified.UnixNano(), p.job.Project})
	if err != nil {
		return View{}, sallyport.E("view", sallyport.Internal, err, "")
	}
	k := string(sallyport.DigestOf(plan))
	made, err, _ := g.making.Do(k, func() (any, error) {
		// Not stopped by the first viewer going away: others may wait for it.
		return g.liveView(context.WithoutCancel(ctx), k, p, a)
	})
	if err != nil {
		return View{}, err
	}
	return made.(View), nil
}

func (g *Gateway) liveView(ctx context.Context, k string, viewer *passage, a admitted) (View, error) {
	all, err := g.journal.views()
	if err != nil {
		return View{}, err
	}
	if v, ok := all[k]; ok && g.now().Before(v.Parcel.Until) {
		g.mu.Lock()
		g.used[k] = g.now()
		g.mu.Unlock()
		v.key = k
		return v, nil
	}
	if v, ok := all[k]; ok {
		if err := g.evict(ctx, k, v, "ran out"); err != nil {
			return View{}, err
		}
	}
	if err := g.makeRoom(ctx, all); err != nil {
		return View{}, err
	}
	req := viewer.job.Request
	req.ID = sallyport.JobID(newID("view-" + strings.TrimPrefix(k, "sha256:")[:8]))
	p := &passage{g: g, view: k, job: Job{Request: req}, also: viewer.also}
	v, err := p.materialize(ctx, a)
	if err != nil {
		// As with a job that ends badly: nothing stays.
		p.decide(err)
		return View{}, errors.Join(err, p.discard(ctx))
	}
	v.key = k
	return v, g.journal.putView(k, &v)
}

// materialize is the passage cut short: hold, then release. Of a table that
// policy leaves as it is nothing is held: it is only measured.
func (p *passage) materialize(ctx context.Context, a admitted) (View, error) {
	var source *Pinned
	name, hold := "hold", p.hold
	if raw(a) {
		name, hold = "measure", func(ctx context.Context, a admitted, o *outcome) (h held, err error) {
			var pin Pinned
			h, pin, err = p.measure(ctx, a, o)
			source = &pin
			return h, err
		}
	}
	h, err := step(ctx, p, name, a, hold)
	if err != nil {
		return View{}, err
	}
	r, err := step(ctx, p, "release", h, p.release)
	if err != nil {
		return View{}, err
	}
	now := p.g.now().UTC()
	size, digest := r.Report.BytesOut, r.Report.Output
	if source != nil {
		size, digest = r.Report.BytesIn, r.Report.Source
	}
	return View{ID: p.job.ID, Dataset: r.Dataset.ID, Project: p.job.Project, Lease: r.Lease, Parcel: r.Parcel, Made: now, Source: source,
		Object: ObjectInfo{Key: path.Base(r.Dataset.Location.Key), Size: size, Digest: digest, Modified: now,
			// Not an MD5, and marked as none, so that clients do not take it for one.
			ETag: strings.TrimPrefix(string(digest), "sha256:")[:32] + "-1"}}, nil
}

// raw reports whether door 1 lets the caller have the table byte for byte: every
// column as it is, and every row.
func raw(a admitted) bool {
	if len(a.Admit.Rows) > 0 || len(a.Admit.Obligations) != len(a.Dataset.Columns) {
		return false
	}
	for _, ob := range a.Admit.Obligations {
		if ob.Verb != "" {
			return false
		}
	}
	return true
}

// makeRoom evicts the views that were not used for longest while they take more
// room than they may.
func (g *Gateway) makeRoom(ctx context.Context, all map[string]View) error {
	limit := g.parts.ViewLimit
	if limit <= 0 {
		return nil
	}
	keys := make([]string, 0, len(all))
	var total int64
	for k, v := range all {
		keys = append(keys, k)
		total += v.Parcel.Size
	}
	g.mu.Lock()
	used := func(k string) time.Time { // since the gateway started; before that, when it was made
		if t, ok := g.used[k]; ok {
			return t
		}
		return all[k].Made
	}
	slices.SortFunc(keys, func(a, b string) int { return used(a).Compare(used(b)) })
	g.mu.Unlock()
	for _, k := range keys {
		if total < limit {
			return nil
		}
		if err := g.evict(ctx, k, all[k], "made room"); err != nil {
			return err
		}
		total -= all[k].Parcel.Size
	}
	return nil
}

// evict ends a view: its key is destroyed, its ciphertext removed, both recorded.
func (g *Gateway) evict(ctx context.Context, k string, v View, why string) error {
	p := &passage{g: g, view: k, job: Job{Request: Request{ID: v.ID, Dataset: v.Dataset, Project: v.Project}}}
	e := p.entry("evict", audit.Intent)
	e.Lease = v.Lease
	if err := p.record(ctx, e); err != nil {
		return err
	}
	if _, err := p.forget(ctx, "view "+why); err != nil {
		return err
	}
	if err := g.journal.putView(k, nil); err != nil {
		return err
	}
	e = p.entry("evict", audit.Outcome)
	e.Lease, e.Reasons = v.Lease, []string{why}
	return p.record(ctx, e)
}

// sweepViews evicts views whose time has come, and what a crash left of views
// that were being made.
func (g *Gateway) sweepViews(ctx context.Context, alsoUnfinished bool) error {
	all, err := g.journal.views()
	if err != nil {
		return err
	}
	known := map[sallyport.JobID]bool{}
	for k, v := range all {
		if g.now().Before(v.Parcel.Until) {
			known[v.ID] = true
			continue
		}
		if err := g.evict(ctx, k, v, "ran out"); err != nil {
			return err
		}
	}
	if !alsoUnfinished {
		return nil
	}
	leases, err := g.parts.Issuer.List(ctx)
	if err != nil {
		return err
	}
	for _, l := range leases {
		id, ok := strings.CutPrefix(l.Release, "release/view-")
		if v := sallyport.JobID("view-" + id); ok && l.Destroyed == nil && !known[v] {
			if err := g.evict(ctx, "unfinished", View{ID: v, Lease: l.ID}, "was never finished"); err != nil {
				return err
			}
		}
	}
	return nil
}
