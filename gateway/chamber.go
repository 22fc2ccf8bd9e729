package gateway

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"time"

	"sallyport"
	"sallyport/seal"
	"sallyport/store"
)

// hold is the chamber between the doors: one streaming pass transforms,
// measures and seals. What rests in the hold is ciphertext; no plain copy is
// written anywhere.
func (p *passage) hold(ctx context.Context, a admitted, o *outcome) (held, error) {
	ttl, src, err := p.openSource(ctx, a)
	if err != nil {
		return held{}, err
	}
	defer src.Close()
	lease, err := p.g.parts.Issuer.Issue(ctx, "release/"+string(p.job.ID), ttl)
	if err != nil {
		return held{}, err
	}
	o.Lease = lease.ID
	var done passed
	parcel, err := SealTo(ctx, p.g.parts.Hold, p.ref("parcel.age"), lease.Recipient, lease.Until, func(w io.Writer) error {
		var err error
		done, err = p.pass(ctx, a, w, src)
		return err
	})
	if err != nil {
		return held{}, err
	}
	report := done.report
	o.Facts = p.facts(a, done, "parcel", parcel)
	o.Objects, o.Columns, o.Result = []string{a.Dataset.Location.Key}, leavingColumns(a.Admit), parcel.Digest
	o.Say = fmt.Sprintf("%d records sealed to lease %s until %s; k %d → %d",
		report.After.Records, lease.ID, lease.Until.Format(time.TimeOnly), report.Before.SmallestClass, report.After.SmallestClass)
	if n := report.Suppressed; n > 0 {
		o.Say += fmt.Sprintf("; %d records suppressed", n)
	}
	if c := report.Combined; c != nil {
		o.Say += fmt.Sprintf("; k %d with earlier releases", c.SmallestClass)
	}
	if n := report.Filtered; n > 0 {
		o.Say += fmt.Sprintf("; %d records kept back by row filters", n)
	}
	return held{admitted: a, Lease: lease.ID, Parcel: parcel, Report: report, Described: done.digest}, nil
}

// measure is hold without holding, for a view that policy leaves as it is: the
// same pass, for what it measures and refuses, over an object that is pinned
// and read where it lies afterwards.
func (p *passage) measure(ctx context.Context, a admitted, o *outcome) (held, Pinned, error) {
	ttl, src, err := p.openSource(ctx, a)
	if err != nil {
		return held{}, Pinned{}, err
	}
	defer src.Close()
	pin := pinned(src.Info())
	done, err := p.pass(ctx, a, io.Discard, src)
	if err != nil {
		return held{}, Pinned{}, err
	}
	report := done.report
	if report.BytesIn != pin.Size {
		return held{}, Pinned{}, sallyport.Errorf("measure", sallyport.Unavailable, "Try again.", "the dataset changed while it was measured")
	}
	o.Facts = p.facts(a, done, "source", pin)
	o.Objects, o.Columns, o.Result = []string{a.Dataset.Location.Key}, leavingColumns(a.Admit), report.Source
	o.Say = fmt.Sprintf("%d records measured where they lie: policy leaves all of them as they are", report.After.Records)
	return held{admitted: a, Report: report, Described: done.digest, Parcel: sallyport.SealedRef{Until: p.g.now().Add(ttl)}}, pin, nil
}

// openSource opens the dataset, once policy has said for how long what is made
// of it may live.
func (p *passage) openSource(ctx context.Context, a admitted) (time.Duration, store.Object, error) {
	ttl := time.Duration(a.Admit.Limits.KeyTTL) * time.Second
	if ttl <= 0 {
		return 0, nil, sallyport.Errorf("hold", sallyport.Denied, "Set limits.key_ttl in the policy's verdict.", "policy gave the key no time to live")
	}
	source, err := p.g.source(a.Dataset)
	if err != nil {
		return 0, nil, err
	}
	src, err := source.Open(ctx, a.Dataset.Location)
	if sallyport.KindOf(err) == sallyport.NotFound {
		err = sallyport.E("hold", sallyport.NotFound, err, "Check `location:` in the dataset's catalog entry.")
	}
	return ttl, src, err
}

// ref names an object of this job in the hold.
func (p *passage) ref(name string) sallyport.Ref {
	return sallyport.Ref{Store: p.g.parts.HoldName, Key: p.prefix() + name}
}

// prefix is where in the hold everything of this job or view lies.
func (p *passage) prefix() string {
	if p.view != "" {
		return "views/" + string(p.job.ID) + "/"
	}
	return "jobs/" + string(p.job.ID) + "/"
}

// SealTo writes what fill writes, sealed to recipient, into the hold, and says
// what it measured of the ciphertext. until is the end of the recipient's key.
func SealTo(ctx context.Context, hold store.Store, to sallyport.Ref, recipient string, until time.Time, fill func(io.Writer) error) (sallyport.SealedRef, error) {
	return PutSealed(ctx, hold, to, recipient, until, func(w io.Writer) error {
		sealed, err := seal.Writer(w, recipient)
		if err != nil {
			return err
		}
		if err := fill(sealed); err != nil {
			return err
		}
		return sealed.Close()
	})
}

// PutSealed is SealTo for what is ciphertext already.
func PutSealed(ctx context.Context, hold store.Store, to sallyport.Ref, recipient string, until time.Time, fill func(io.Writer) error) (sallyport.SealedRef, error) {
	m := &meter{sum: sha256.New()}
	_, err := hold.Put(ctx, to, func(w io.Writer) error {
		m.sum.Reset()
		m.n = 0
		return fill(io.MultiWriter(w, m))
	})
	if err != nil {
		return sallyport.SealedRef{}, err
	}
	return sallyport.SealedRef{Ref: to, Digest: sallyport.DigestSum(m.sum.Sum(nil)), Size: m.n, Recipient: recipient, Until: until}, nil
}

// meter counts and hashes what passes.
type meter struct {
	sum hash.Hash
	n   int64
}

func (m *meter) Write(b []byte) (int, error) {
	m.n += int64(len(b))
	return m.sum.Write(b)
}

func share(n, of int64) string {
	if of <= 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%d %%", n*100/of)
}
