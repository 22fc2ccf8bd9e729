package bench

import (
	"bufio"
	"context"
	stdcsv "encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/csv"
	"sallyport/anonymize/jsonl"
	"sallyport/anonymize/parquet"
	"sallyport/anonymize/transform"
	"sallyport/gateway"
	"sallyport/seal/keyfile"
	"sallyport/store"
	"sallyport/store/dir"
)

// buffer is what each contender reads and writes at a time, so that none wins
// by a larger one.
const buffer = 256 << 10

// lab is a gateway's chamber and what stands around it, without the gateway:
// the same store, issuer and runner as its embedded defaults.
type lab struct {
	dir    string
	data   *dir.Store
	hold   *dir.Store
	issuer *keyfile.Issuer
	runner *anonymize.Runner
	env    anonymize.PassEnv
	passes int
}

func openLab(ctx context.Context, parent string) (_ *lab, err error) {
	l := &lab{}
	if l.dir, err = os.MkdirTemp(parent, "sallyport-bench-"); err != nil {
		return nil, sallyport.E("bench", sallyport.Unavailable, err, "Name a folder that you may write to.")
	}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if l.data, err = dir.Open("data", dir.Config{Path: filepath.Join(l.dir, "data")}); err != nil {
		return nil, err
	}
	if l.hold, err = dir.Open("hold", dir.Config{Path: filepath.Join(l.dir, "hold")}); err != nil {
		return nil, err
	}
	if l.issuer, err = keyfile.Open(keyfile.Config{Dir: filepath.Join(l.dir, "keys")}, time.Now); err != nil {
		return nil, err
	}
	l.runner = anonymize.NewRunner([]anonymize.Format{csv.New(), jsonl.New(), parquet.New()}, []anonymize.Transform{
		transform.Pseudonym{}, transform.Generalize{}, transform.Prefix{}, transform.Date{}, transform.ShiftDate{},
	})
	keys := map[string][]byte{}
	for _, purpose := range []string{"pseudonym", "shift_date"} {
		if keys[purpose], err = l.issuer.Derive(ctx, "project/bench/"+purpose); err != nil {
			return nil, err
		}
	}
	l.env.Key = func(purpose string) []byte { return keys[purpose] }
	l.env.SpillDir = filepath.Join(l.dir, "spill")
	if err := os.Mkdir(l.env.SpillDir, 0o700); err != nil {
		return nil, failed(err)
	}
	return l, nil
}

// Close removes everything.
func (l *lab) Close() error {
	var errs []error
	if l.issuer != nil {
		errs = append(errs, l.issuer.Close())
	}
	for _, s := range []*dir.Store{l.data, l.hold} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}

var tableRef = sallyport.Ref{Store: "data", Key: "table.csv"}

// lay puts a table into the data store, where every contender reads it.
func (l *lab) lay(ctx context.Context, t *Table) error {
	_, err := l.data.Put(ctx, tableRef, func(w io.Writer) error {
		_, err := io.CopyBuffer(w, struct{ io.Reader }{t}, make([]byte, buffer))
		return err
	})
	return err
}

func (l *lab) open(ctx context.Context) (store.Object, error) { return l.data.Open(ctx, tableRef) }

// sealedPass does what the gateway's step "hold" does: mint the release's key,
// run the pass into the seal, put the parcel into the hold, durably.
func (l *lab) sealedPass(ctx context.Context, format string, src anonymize.Source) (anonymize.Report, sallyport.SealedRef, error) {
	l.passes++
	lease, err := l.issuer.Issue(ctx, fmt.Sprintf("release/bench-%d", l.passes), time.Hour)
	if err != nil {
		return anonymize.Report{}, sallyport.SealedRef{}, err
	}
	var report anonymize.Report
	to := sallyport.Ref{Store: "hold", Key: fmt.Sprintf("jobs/bench-%d/parcel.age", l.passes)}
	parcel, err := gateway.SealTo(ctx, l.hold, to, lease.Recipient, lease.Until, func(w io.Writer) error {
		var err error
		report, err = l.pass(ctx, format, w, src)
		return err
	})
	return report, parcel, err
}

// pass is the pass alone: parse, transform, count, write.
func (l *lab) pass(ctx context.Context, format string, dst io.Writer, src anonymize.Source) (anonymize.Report, error) {
	p := plan(Dataset("bench", tableRef))
	p.Format = format
	return l.runner.Run(ctx, p, l.env, dst, src)
}

// ageAlone seals src as it is into the hold, with age and nothing else.
func (l *lab) ageAlone(ctx context.Context, src io.Reader) (store.Info, error) {
	l.passes++
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return store.Info{}, err
	}
	to := sallyport.Ref{Store: "hold", Key: fmt.Sprintf("jobs/bench-%d/age-alone.age", l.passes)}
	return l.hold.Put(ctx, to, func(w io.Writer) error {
		sealed, err := age.Encrypt(w, id.Recipient())
		if err != nil {
			return err
		}
		if _, err := io.CopyBuffer(sealed, struct{ io.Reader }{src}, make([]byte, buffer)); err != nil {
			return err
		}
		return sealed.Close()
	})
}

// copyCSV reads src and writes it again with encoding/csv, as fast as that
// package's options allow.
func copyCSV(dst io.Writer, src io.Reader) error {
	r := stdcsv.NewReader(bufio.NewReaderSize(src, buffer))
	r.ReuseRecord = true
	out := bufio.NewWriterSize(dst, buffer)
	w := stdcsv.NewWriter(out)
	for {
		record, err := r.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := w.Write(record); err != nil {
			return err
		}
	}
	w.Flush()
	return errors.Join(w.Error(), out.Flush())
}
