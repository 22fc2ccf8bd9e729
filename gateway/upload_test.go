package gateway_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sync/errgroup"

	"bytes"
	peer "github.com/parquet-go/parquet-go"
	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/csv"
	"sallyport/anonymize/jsonl"
	"sallyport/anonymize/parquet"
	"sallyport/anonymize/transform"
	"sallyport/audit"
	"sallyport/gateway"
)

var steward = gateway.Subject{ID: "steward", Roles: []string{"steward"}}

func TestAnUploadWaitsForItsSteward(t *testing.T) {
	l := newLab(t, nil)
	const body = "mrn,age,score\nM1,20,1.5\nM2,30,2.5\n"
	info, err := l.g.Put(t.Context(), ada(), "patients", "inbox/more.csv", strings.NewReader(body))
	if err != nil || info.Size != int64(len(body)) {
		t.Fatalf("%+v, %v", info, err)
	}
	if list, err := l.g.Objects(t.Context(), ada(), "patients", "inbox/"); err != nil || len(list) != 0 {
		t.Errorf("an upload in quarantine is listed: %v, %v", list, err)
	}
	if _, err := l.g.Open(t.Context(), ada(), "patients", "inbox/more.csv"); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("an upload in quarantine can be opened: %v", err)
	}
	waiting, err := l.g.Quarantine()
	if err != nil || len(waiting) != 1 || waiting[0].Profile == nil || waiting[0].Profile.Records != 2 || waiting[0].By != "ada" {
		t.Fatalf("%+v, %v", waiting, err)
	}
	obj, err := l.hold.Open(t.Context(), waiting[0].Parcel.Ref)
	if err != nil {
		t.Fatal(err)
	}
	sealed, _ := io.ReadAll(obj)
	if strings.Contains(string(sealed), "mrn") {
		t.Error("an upload rests in clear")
	}
	d, err := l.g.Accept(t.Context(), steward, waiting[0].ID, "more")
	if err != nil {
		t.Fatal(err)
	}
	if d.Sensitivity != sallyport.Confidential || d.Owner != "steward" || len(d.Columns) != 3 {
		t.Errorf("%+v", d)
	}
	if list, err := l.g.Datasets(t.Context(), ada()); err != nil || !strings.Contains(strings.Join(list, " "), "more") {
		_, why := l.g.Prepare(t.Context(), ada(), "more", nil)
		t.Errorf("the accepted dataset is not there: %v, %v, %v", list, err, why)
	}
	if _, err := l.g.Accept(t.Context(), steward, waiting[0].ID, "again"); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("accepted twice: %v", err)
	}
	if _, err := l.issuer.Fetch(t.Context(), waiting[0].Lease); err == nil {
		t.Error("the upload's key outlived the quarantine")
	}
}

// Formats that cannot be read as they come are scanned, too, from what rests
// sealed.
func TestUploadsOfEveryFormat(t *testing.T) {
	l := newLab(t, func(l *lab) {
		l.parts.Runner = anonymize.NewRunner([]anonymize.Format{csv.New(), jsonl.New(), parquet.New()}, []anonymize.Transform{transform.Pseudonym{}, transform.Generalize{}})
	})
	type row struct {
		Age   int64   `parquet:"age"`
		Score float64 `parquet:"score"`
	}
	var columnar bytes.Buffer
	if err := peer.Write(&columnar, []row{{20, 1.5}, {30, 2.5}}); err != nil {
		t.Fatal(err)
	}
	for format, body := range map[string]string{"jsonl": "{\"age\":20,\"score\":1.5}\n{\"score\":2.5,\"age\":30}\n", "parquet": columnar.String()} {
		if _, err := l.g.Put(t.Context(), ada(), "patients", "inbox/more."+format, strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		waiting, err := l.g.Quarantine()
		if err != nil || len(waiting) != 1 || waiting[0].Profile == nil {
			t.Fatalf("%s: %+v, %v", format, waiting, err)
		}
		if p := waiting[0].Profile; p.Format != format || p.Records != 2 || len(p.Columns) != 2 {
			t.Errorf("%s: %+v", format, p)
		}
		if d, err := l.g.Accept(t.Context(), steward, waiting[0].ID, "more-"+format); err != nil || d.Format != format {
			t.Errorf("%s: %+v, %v", format, d, err)
		}
	}
}

func TestARejectedUploadIsGone(t *testing.T) {
	l := newLab(t, nil)
	if _, err := l.g.Put(t.Context(), ada(), "patients", "inbox/x.bin", strings.NewReader("\x00\x01")); err != nil {
		t.Fatal(err)
	}
	waiting, err := l.g.Quarantine()
	if err != nil || len(waiting) != 1 || waiting[0].Problem == "" {
		t.Fatalf("%+v, %v", waiting, err)
	}
	if _, err := l.g.Accept(t.Context(), steward, waiting[0].ID, "x"); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("accepted what could not be scanned: %v", err)
	}
	if err := l.g.Reject(t.Context(), steward, waiting[0].ID, "not a table"); err != nil {
		t.Fatal(err)
	}
	if l.liveKeys() != 0 || len(l.inHold()) != 0 {
		t.Errorf("%d keys, hold %v", l.liveKeys(), l.inHold())
	}
}

func TestScratchIsTheProjectsOwn(t *testing.T) {
	l := newLab(t, func(l *lab) { l.parts.ScratchQuota = 100 })
	put := func(key, body string) error {
		_, err := l.g.Put(t.Context(), ada(), gateway.Scratch, key, strings.NewReader(body))
		return err
	}
	if err := errors.Join(put("a/1", "first"), put("a/2", "second"), put("a/1", "again")); err != nil {
		t.Fatal(err)
	}
	list, err := l.g.Objects(t.Context(), ada(), gateway.Scratch, "a/")
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	o, err := l.g.Open(t.Context(), ada(), gateway.Scratch, "a/1")
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, o); got != "again" {
		t.Errorf("read %q", got)
	}
	o.Close()
	other := ada()
	other.Project = "other"
	if list, err := l.g.Objects(t.Context(), other, gateway.Scratch, ""); sallyport.KindOf(err) != sallyport.Denied || len(list) != 0 {
		t.Errorf("another project sees %v, %v", list, err)
	}
	if _, err := l.g.Put(t.Context(), other, gateway.Scratch, "x", strings.NewReader("x")); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("put into another's scratch: %v", err)
	}
	if err := put("big", strings.Repeat("x", 200)); sallyport.KindOf(err) != sallyport.Exhausted {
		t.Errorf("beyond the quota: %v", err)
	}
	if err := l.g.Remove(t.Context(), ada(), gateway.Scratch, "a/1"); err != nil {
		t.Fatal(err)
	}
	if l.liveKeys() != 1 || len(l.inHold()) != 1 {
		t.Errorf("%d keys, hold %v", l.liveKeys(), l.inHold())
	}
}

func TestABrokenOrForbiddenUploadLeavesNothing(t *testing.T) {
	l := newLab(t, nil)
	broken := io.MultiReader(strings.NewReader("mrn,age\nM1,2"), iotest.ErrReader(errors.New("connection reset")))
	if _, err := l.g.Put(t.Context(), ada(), "patients", "inbox/x.csv", broken); err == nil {
		t.Error("a body that broke off was taken")
	}
	for _, key := range []string{"patients.csv", "inbox/", "x"} {
		if _, err := l.g.Put(t.Context(), ada(), "patients", key, strings.NewReader("a,b\n1,2\n")); sallyport.KindOf(err) != sallyport.Denied {
			t.Errorf("put %s: %v", key, err)
		}
	}
	who := ada()
	who.Purpose = "marketing"
	if _, err := l.g.Put(t.Context(), who, "patients", "inbox/x.csv", strings.NewReader("a,b\n1,2\n")); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("put for another purpose: %v", err)
	}
	if err := l.g.Remove(t.Context(), ada(), "patients", "patients.csv"); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("removed a dataset: %v", err)
	}
	if l.liveKeys() != 0 || len(l.inHold()) != 0 {
		t.Errorf("%d keys, hold %v", l.liveKeys(), l.inHold())
	}
	n := 0
	for r, err := range l.parts.Audit.Records(t.Context(), audit.Filter{Decision: "deny"}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Entry.Step == "put" || r.Entry.Step == "remove" {
			n++
		}
	}
	if n != 5 {
		t.Errorf("%d denials recorded, want 5", n)
	}
}

func TestMultipart(t *testing.T) {
	l := newLab(t, func(l *lab) { l.parts.ScratchQuota = 100 })
	id, err := l.g.CreateMultipart(t.Context(), ada(), gateway.Scratch, "big")
	if err != nil {
		t.Fatal(err)
	}
	put := func(n int, body string) gateway.PartInfo {
		t.Helper()
		p, err := l.g.PutPart(t.Context(), ada(), id, gateway.Scratch, "big", n, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	two, one := put(2, "world"), put(1, "bye ")
	wrong := one
	one = put(1, "hello ")
	if _, err := l.g.CompleteMultipart(t.Context(), ada(), id, gateway.Scratch, "big", []gateway.PartInfo{wrong, two}); sallyport.KindOf(err) != sallyport.Conflict {
		t.Errorf("a replaced part was taken: %v", err)
	}
	if _, err := l.g.PutPart(t.Context(), ada(), id, gateway.Scratch, "big", 3, strings.NewReader(strings.Repeat("x", 95))); sallyport.KindOf(err) != sallyport.Exhausted {
		t.Errorf("parts beyond the quota: %v", err)
	}
	eve := ada()
	eve.Subject.ID = "eve"
	if _, err := l.g.MultipartParts(t.Context(), eve, id, gateway.Scratch, "big"); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("another's upload: %v", err)
	}
	if _, err := l.g.CompleteMultipart(t.Context(), ada(), id, gateway.Scratch, "big", []gateway.PartInfo{one, two}); err != nil {
		t.Fatal(err)
	}
	o, err := l.g.Open(t.Context(), ada(), gateway.Scratch, "big")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if got := readAll(t, o); got != "hello world" {
		t.Errorf("made %q", got)
	}
	if l.liveKeys() != 1 || len(l.inHold()) != 1 {
		t.Errorf("%d keys, hold %v", l.liveKeys(), l.inHold())
	}
	id, err = l.g.CreateMultipart(t.Context(), ada(), gateway.Scratch, "other")
	if err != nil {
		t.Fatal(err)
	}
	put2, err := l.g.PutPart(t.Context(), ada(), id, gateway.Scratch, "other", 1, strings.NewReader("x"))
	if err != nil || put2.Size != 1 {
		t.Fatal(put2, err)
	}
	if err := l.g.AbortMultipart(t.Context(), ada(), id, gateway.Scratch, "other"); err != nil {
		t.Fatal(err)
	}
	if l.liveKeys() != 1 || len(l.inHold()) != 1 {
		t.Errorf("after abort: %d keys, hold %v", l.liveKeys(), l.inHold())
	}
	if _, err := l.g.CreateMultipart(t.Context(), ada(), "patients", "not-inbox"); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("outside the inbox: %v", err)
	}
}

// Every act on an upload is announced before and ended after: no orphans, and
// nothing is destroyed without a record.
func TestUploadsLeaveNoOrphans(t *testing.T) {
	l := newLab(t, nil)
	put := func(bucket, key string) {
		t.Helper()
		if _, err := l.g.Put(t.Context(), ada(), bucket, key, strings.NewReader("a,b\n1,2\n")); err != nil {
			t.Fatal(err)
		}
	}
	put(gateway.Scratch, "x")
	put(gateway.Scratch, "x")
	put("patients", "inbox/a.csv")
	put("patients", "inbox/b.csv")
	waiting, err := l.g.Quarantine()
	if err != nil || len(waiting) != 2 {
		t.Fatal(waiting, err)
	}
	id, err := l.g.CreateMultipart(t.Context(), ada(), gateway.Scratch, "m")
	if err != nil {
		t.Fatal(err)
	}
	_, acceptErr := l.g.Accept(t.Context(), steward, waiting[0].ID, "accepted")
	if err := errors.Join(acceptErr, l.g.Reject(t.Context(), steward, waiting[1].ID, "no"), l.g.Remove(t.Context(), ada(), gateway.Scratch, "x"),
		l.g.AbortMultipart(t.Context(), ada(), id, gateway.Scratch, "m")); err != nil {
		t.Fatal(err)
	}
	orphans, err := l.parts.Audit.Orphans()
	if err != nil || len(orphans) != 0 {
		t.Errorf("orphans %+v, %v", orphans, err)
	}
	if l.liveKeys() != 0 || len(l.inHold()) != 0 {
		t.Errorf("%d keys, hold %v", l.liveKeys(), l.inHold())
	}
	// Nothing is destroyed while nothing can be recorded.
	put(gateway.Scratch, "y")
	if err := l.parts.Audit.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.g.Remove(t.Context(), ada(), gateway.Scratch, "y"); err == nil || l.liveKeys() != 1 {
		t.Errorf("removed without a record: %v, %d keys", err, l.liveKeys())
	}
}

// Of two writers of one key the last wins, and one object is there.
func TestTwoWritersOfOneKey(t *testing.T) {
	l := newLab(t, nil)
	var group errgroup.Group
	for i := range 8 {
		group.Go(func() error {
			_, err := l.g.Put(t.Context(), ada(), gateway.Scratch, "same", strings.NewReader(strings.Repeat("x", i+1)))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	list, err := l.g.Objects(t.Context(), ada(), gateway.Scratch, "")
	if err != nil || len(list) != 1 || l.liveKeys() != 1 || len(l.inHold()) != 1 {
		t.Fatalf("%+v, %v, %d keys, hold %v", list, err, l.liveKeys(), l.inHold())
	}
	o, err := l.g.Open(t.Context(), ada(), gateway.Scratch, "same")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if got := readAll(t, o); int64(len(got)) != list[0].Size {
		t.Errorf("listed %d bytes, read %d", list[0].Size, len(got))
	}
}

// Who left a project sees its scratch no more, whatever key they hold.
func TestScratchEndsWithMembership(t *testing.T) {
	l := newLab(t, nil)
	if _, err := l.g.Put(t.Context(), ada(), gateway.Scratch, "x", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	left := ada()
	left.Subject.Projects = nil
	if _, err := l.g.Open(t.Context(), left, gateway.Scratch, "x"); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("open: %v", err)
	}
	if list, err := l.g.Objects(t.Context(), left, gateway.Scratch, ""); sallyport.KindOf(err) != sallyport.Denied || len(list) != 0 {
		t.Errorf("list: %v, %v", list, err)
	}
	if err := l.g.Remove(t.Context(), left, gateway.Scratch, "x"); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("remove: %v", err)
	}
}
