package gateway

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"time"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/seal"
	"sallyport/store"
)

// hold is the chamber between the doors: one streaming pass transforms,
// measures and seals. What rests in the hold is ciphertext; no plain copy is
// written anywhere.
func (p *passage) hold(ctx context.Context, a admitted, o *outcome) (held, error) {
	ttl := time.Duration(a.Admit.Limits.KeyTTL) * time.Second
	if ttl <= 0 {
		return held{}, sallyport.Errorf("hold", sallyport.Denied, "Set limits.key_ttl in the policy's verdict.", "policy gave the key no time to live")
	}
	source, err := p.g.source(a.Dataset)
	if err != nil {
		return held{}, err
	}
	lease, err := p.g.parts.Issuer.Issue(ctx, "release/"+string(p.job.ID), ttl)
	if err != nil {
		return held{}, err
	}
	o.Lease = lease.ID
	src, err := source.Open(ctx, a.Dataset.Location)
	if sallyport.KindOf(err) == sallyport.NotFound {
		err = sallyport.E("hold", sallyport.NotFound, err, "Check `location:` in the dataset's catalog entry.")
	}
	if err != nil {
		return held{}, err
	}
	defer src.Close()

	plan := anonymize.Plan{Dataset: a.Dataset.ID, Format: a.Dataset.Format, Columns: a.Dataset.Columns,
		Subject: a.Dataset.Subject, Obligations: a.Admit.Obligations, Rows: a.Admit.Rows}
	env, err := p.g.passEnv(ctx, a.Admission.Project)
	if err != nil {
		return held{}, err
	}
	size := src.Info().Size
	env.Progress = func(read, records int64) { p.progress("hold", "%d records, %s", records, share(read, size)) }

	var report anonymize.Report
	parcel, err := SealTo(ctx, p.g.parts.Hold, p.ref("parcel.age"), lease.Recipient, lease.Until, func(w io.Writer) error {
		var err error
		report, err = p.g.parts.Runner.Run(ctx, plan, env, w, src)
		return err
	})
	if err != nil {
		return held{}, err
	}
	o.Facts = map[string]any{"plan": plan, "report": report, "parcel": parcel}
	o.Say = fmt.Sprintf("%d records sealed to lease %s until %s; k %d → %d",
		report.After.Records, lease.ID, lease.Until.Format(time.TimeOnly), report.Before.SmallestClass, report.After.SmallestClass)
	if n := report.Filtered; n > 0 {
		o.Say += fmt.Sprintf("; %d records kept back by row filters", n)
	}
	return held{admitted: a, Lease: lease.ID, Parcel: parcel, Report: report}, nil
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
