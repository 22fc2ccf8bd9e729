package export

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sallyport"
	"sallyport/audit"
)

const testOrigin = "lab.example/sallyport"

var (
	testRules  = fstest.MapFS{"gate/a.rego": {Data: []byte("package a\n")}, "gate/b.rego": {Data: []byte("package b\n")}, "data.json": {Data: []byte("{}")}}
	testBundle = rulesDigest(map[string][]byte{"gate/a.rego": []byte("package a\n"), "gate/b.rego": []byte("package b\n")})
)

// newLog is a real log of the day of [entries], with decisions by testBundle.
func newLog(t testing.TB, more int) *audit.Log {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.db")
	l, err := audit.Open(audit.Config{Path: path, Origin: testOrigin, Seed: bytes.Repeat([]byte{7}, 32), Now: func() time.Time { return testTime }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for _, e := range entries() {
		if e.Policy != "" {
			e.Policy = testBundle
		}
		e.Step = strings.ReplaceAll(e.Step, "]", "")
		e.Step = strings.TrimSpace(e.Step)
		if _, err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if more > 0 {
		fill(t, l, more)
	}
	return l
}

func fill(t testing.TB, l *audit.Log, n int) {
	t.Helper()
	work := make(chan int)
	done := make(chan error)
	const workers = 64
	for range workers {
		go func() {
			var err error
			for i := range work {
				if err == nil {
					_, err = l.Append(context.Background(), audit.Entry{Step: "admit", Phase: audit.Outcome, Job: sallyport.JobID(fmt.Sprintf("many-%d", i)), Subject: "ada", Dataset: "ward", Project: "pilot",
						Decision: "allow", Policy: testBundle, Data: testData, Rules: []string{"admit.grant"}, Reasons: []string{"purpose <fits>"}})
				}
			}
			done <- err
		}()
	}
	for i := range n {
		work <- i
	}
	close(work)
	for range workers {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func testPack(l *audit.Log, f audit.Filter) Pack {
	return Pack{Log: l, Filter: f, At: testTime, By: "olga", Version: "0.1.0", Policy: func(d sallyport.Digest) (fs.FS, error) {
		if d == testBundle {
			return testRules, nil
		}
		return nil, sallyport.Errorf("policy", sallyport.NotFound, "", "none")
	}}
}

func writePack(t testing.TB, p Pack) (string, Summary) {
	t.Helper()
	var b bytes.Buffer
	s, err := Evidence(t.Context(), &b, p)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pack.zip")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, s
}

// unzip returns a pack's files.
func unzip(t testing.TB, file string) map[string][]byte {
	t.Helper()
	z, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if out[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	return out
}

// rezip writes files as a pack, with sums that fit them.
func rezip(t testing.TB, files map[string][]byte) string {
	t.Helper()
	var b bytes.Buffer
	z := &packer{z: zip.NewWriter(&b)}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		put := z.file
		if strings.HasPrefix(name, packProofs) {
			put = z.put
		}
		if name == packSums {
			continue
		}
		if err := put(name, files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.sums(); err != nil {
		t.Fatal(err)
	}
	if err := z.z.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pack.zip")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func whole(t *testing.T, file, key string, records uint64) audit.Verification {
	t.Helper()
	v, err := VerifyPack(file, key)
	if err != nil || !v.Whole || v.Records != records {
		t.Fatalf("%+v, %v; want %d records", v, err, records)
	}
	return v
}

func TestPack(t *testing.T) {
	l := newLog(t, 0)
	all := uint64(len(entries()))
	file, s := writePack(t, testPack(l, audit.Filter{}))
	if s.Records != all || len(s.Missing) != 0 {
		t.Errorf("%+v", s)
	}
	v := whole(t, file, l.VerifierKey(), all)
	if v.KeySource != audit.KeyGiven {
		t.Error(v.KeySource)
	}
	if v := whole(t, file, "", all); v.KeySource != audit.KeyInFile {
		t.Error(v.KeySource)
	}
	if !IsPack(file) {
		t.Error("not seen as a pack")
	}
	again, _ := writePack(t, testPack(l, audit.Filter{}))
	a, b := must(os.ReadFile(file)), must(os.ReadFile(again))
	if !bytes.Equal(a, b) {
		t.Error("two packs of the same differ")
	}
	// Only what was asked for, in any order.
	some, s := writePack(t, testPack(l, audit.Filter{Job: "one", Newest: true, Limit: 4}))
	if s.Records != 4 {
		t.Errorf("%+v", s)
	}
	whole(t, some, l.VerifierKey(), 4)
	if files := unzip(t, some); len(files) != 4+8+3-1 || !strings.Contains(string(files[packReadme]), `{"job":"one","newest_first":true,"limit":4}`) {
		t.Errorf("%d files: %v", len(files), slices.Sorted(maps.Keys(files)))
	}
	none, s := writePack(t, testPack(l, audit.Filter{Job: "none"}))
	if s.Records != 0 {
		t.Errorf("%+v", s)
	}
	whole(t, none, l.VerifierKey(), 0)
	// A bundle that is not kept is missing, and said to be.
	p := testPack(l, audit.Filter{})
	p.Policy = nil
	without, s := writePack(t, p)
	if len(s.Missing) != 1 || s.Missing[0] != testBundle {
		t.Errorf("%+v", s)
	}
	whole(t, without, l.VerifierKey(), all)
	p.Policy = func(sallyport.Digest) (fs.FS, error) {
		return fstest.MapFS{"x.rego": {Data: []byte("package x\n")}}, nil
	}
	if _, err := Evidence(t.Context(), io.Discard, p); sallyport.KindOf(err) != sallyport.Damaged {
		t.Errorf("a bundle with other rules: %v", err)
	}
	v, err := VerifyPack(file, "other.example+"+strings.SplitN(l.VerifierKey(), "+", 2)[1])
	if err == nil {
		t.Errorf("another key: %+v", v)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestPackOfErasedAndSealed: records without contents are in the pack, with
// their proofs, and counted.
func TestPackOfErasedAndSealed(t *testing.T) {
	l := newLog(t, 0)
	if _, err := l.Erase(t.Context(), audit.Erasure{Subject: "eve", By: "olga", Approved: "otto", Reason: "asked", Basis: "GDPR 17"}); err != nil {
		t.Fatal(err)
	}
	file, s := writePack(t, testPack(l, audit.Filter{}))
	if s.Erased != 2 || s.Sealed != 0 {
		t.Errorf("%+v", s)
	}
	if v := whole(t, file, l.VerifierKey(), l.Size()); v.Erased != 2 {
		t.Errorf("%+v", v)
	}
	if strings.Contains(string(unzip(t, file)[packRecords]), `"eve"`) {
		t.Error("the pack names who was erased")
	}
	verifyByScript(t, file, l.VerifierKey(), 0, "(2 erased, 0 sealed)")
	// A copy without its keys.
	copied := filepath.Join(t.TempDir(), "copy.db")
	w := must(os.Create(copied))
	if err := l.Snapshot(w); err != nil {
		t.Fatal(err)
	}
	w.Close()
	c := must(audit.OpenReadOnly(copied))
	defer c.Close()
	file, s = writePack(t, testPack(c, audit.Filter{}))
	if s.Sealed == 0 || s.Sealed+s.Erased > s.Records {
		t.Errorf("%+v", s)
	}
	whole(t, file, l.VerifierKey(), l.Size())
	verifyByScript(t, file, l.VerifierKey(), 0, fmt.Sprintf("(2 erased, %d sealed)", s.Sealed))
}

// TestPackCosigned: what witnesses cosigned is in the pack, with the proof that
// the log continues it.
func TestPackCosigned(t *testing.T) {
	l := newLog(t, 0)
	old := must(l.Checkpoint())
	witness := must(audit.NewCosigner("witness.example", bytes.Repeat([]byte{9}, 32)))
	text, _, _ := strings.Cut(old, "\n\n")
	cosigned := old + must(witness.Cosign(text+"\n", testTime))
	p := testPack(l, audit.Filter{Job: "one"})
	p.Cosigned = cosigned
	same, s := writePack(t, p)
	if files := unzip(t, same); string(files[packCheckpoint]) != cosigned || files[packCosigned] != nil {
		t.Error("a checkpoint that was cosigned is not used")
	}
	whole(t, same, l.VerifierKey(), s.Records)
	verifyByScript(t, same, l.VerifierKey(), 0, "whole")
	fill(t, l, 13)
	later, _ := writePack(t, p)
	if files := unzip(t, later); string(files[packCosigned]) != cosigned || files[packConsistency] == nil {
		t.Error("the cosigned checkpoint is not in the pack")
	}
	whole(t, later, l.VerifierKey(), s.Records)
	verifyByScript(t, later, l.VerifierKey(), 0, "whole")
	files := unzip(t, later)
	files[packConsistency] = []byte("[]\n")
	spoiled(t, files, l.VerifierKey(), audit.Forked)
	p.Cosigned = cosignedOfAnother(t)
	if _, err := Evidence(t.Context(), io.Discard, p); sallyport.KindOf(err) != sallyport.Damaged {
		t.Errorf("a checkpoint of another history: %v", err)
	}
}

// cosignedOfAnother is a checkpoint by the same key of a longer history.
func cosignedOfAnother(t *testing.T) string {
	return must(newLog(t, 100).Checkpoint())
}

func spoiled(t *testing.T, files map[string][]byte, key, damage string) {
	t.Helper()
	file := rezip(t, files)
	v, err := VerifyPack(file, key)
	if err != nil || v.Whole || damage != "" && v.Damage != damage {
		t.Errorf("%+v, %v; want %s", v, err, damage)
	}
	verifyByScript(t, file, key, 1, "DAMAGED")
}

// TestPackTampered changes a pack at every layer, with sums that fit. Both
// verifiers must find each.
func TestPackTampered(t *testing.T) {
	l := newLog(t, 0)
	key := l.VerifierKey()
	good, _ := writePack(t, testPack(l, audit.Filter{Job: "one"}))
	replace := func(name, old, new string) func(map[string][]byte) {
		return func(files map[string][]byte) {
			if !bytes.Contains(files[name], []byte(old)) {
				panic(fmt.Sprintf("%s does not hold %q", name, old))
			}
			files[name] = bytes.Replace(files[name], []byte(old), []byte(new), 1)
		}
	}
	lines := func(edit func([]string) []string) func(map[string][]byte) {
		return func(files map[string][]byte) {
			list := strings.SplitAfter(string(files[packRecords]), "\n")
			files[packRecords] = []byte(strings.Join(edit(list[:len(list)-1]), ""))
		}
	}
	for name, c := range map[string]struct {
		damage string
		spoil  func(map[string][]byte)
	}{
		"content":       {audit.Changed, replace(packRecords, `"subject":"ada"`, `"subject":"bob"`)},
		"decision":      {audit.Changed, replace(packRecords, `"decision":"allow"`, `"decision":"deny"`)},
		"salt":          {audit.Changed, replace(packRecords, `"salt":"`, `"salt":"A`)},
		"leaf":          {"", replace(packRecords, `step admit`, `step adnit`)},
		"time":          {audit.Changed, replace(packRecords, `"time":"2026`, `"time":"2025`)},
		"content taken": {audit.Changed, replace(packRecords, `,"salt"`, `,"erased":3,"salt"`)},
		"record taken":  {"", lines(func(l []string) []string { return l[1:] })},
		"record twice":  {audit.Added, lines(func(l []string) []string { return append(l, l[0]) })},
		"half a line":   {audit.Changed, lines(func(l []string) []string { return append(l, `{"seq":`) })},
		"record and proof": {audit.Truncated, func(f map[string][]byte) {
			lines(func(l []string) []string { return l[1:] })(f)
			delete(f, "proofs/1.tlog-proof")
		}},
		"proof missing": {audit.Removed, func(f map[string][]byte) { delete(f, "proofs/2.tlog-proof") }},
		"proofs swapped": {audit.Reordered, func(f map[string][]byte) {
			f["proofs/1.tlog-proof"], f["proofs/2.tlog-proof"] = f["proofs/2.tlog-proof"], f["proofs/1.tlog-proof"]
		}},
		"proof of none":      {audit.Removed, func(f map[string][]byte) { f["proofs/99.tlog-proof"] = f["proofs/2.tlog-proof"] }},
		"proof's hash":       {audit.Changed, func(f map[string][]byte) { spoilHash(t, f, "proofs/2.tlog-proof") }},
		"size":               {audit.SignatureWrong, replace(packCheckpoint, "\n21\n", "\n22\n")},
		"signature":          {"", func(f map[string][]byte) { f[packCheckpoint] = bytes.TrimSuffix(f[packCheckpoint], []byte("\n")) }},
		"checkpoint missing": {audit.Removed, func(f map[string][]byte) { delete(f, packCheckpoint) }},
		"counts":             {"", replace(packExport, `"records": 11`, `"records": 10`)},
		"other origin":       {audit.Changed, replace(packExport, `"origin": "lab`, `"origin": "Lab`)},
		"policy":             {audit.Changed, func(f map[string][]byte) { f[policyFile("gate/a.rego")] = []byte("package b\n") }},
		"policy's file":      {audit.Changed, func(f map[string][]byte) { delete(f, policyFile("gate/a.rego")) }},
		"policy gone": {audit.Removed, func(f map[string][]byte) {
			for n := range f {
				if strings.HasPrefix(n, packPolicies) {
					delete(f, n)
				}
			}
		}},
		"another policy": {audit.Added, func(f map[string][]byte) { f["policies/00/x.rego"] = []byte("package x\n") }},
	} {
		t.Run(name, func(t *testing.T) {
			files := unzip(t, good)
			c.spoil(files)
			spoiled(t, files, key, c.damage)
		})
	}
	t.Run("sums", func(t *testing.T) {
		files := unzip(t, good)
		files[packReadme] = append(files[packReadme], "And more.\n"...)
		var b bytes.Buffer
		z := &packer{z: zip.NewWriter(&b)}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if err := z.put(name, files[name]); err != nil {
				t.Fatal(err)
			}
		}
		z.z.Close()
		file := filepath.Join(t.TempDir(), "p.zip")
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if v, err := VerifyPack(file, key); err != nil || v.Damage != audit.Changed {
			t.Errorf("%+v, %v", v, err)
		}
		verifyByScript(t, file, key, 1, "README.md was changed")
	})
	// A pack signed by another key, whole in itself.
	t.Run("forged", func(t *testing.T) {
		other := must(audit.Open(audit.Config{Path: filepath.Join(t.TempDir(), "a.db"), Origin: testOrigin, Seed: bytes.Repeat([]byte{8}, 32)}))
		defer other.Close()
		if _, err := other.Append(t.Context(), audit.Entry{Step: "admit", Phase: audit.Note, Subject: "ada"}); err != nil {
			t.Fatal(err)
		}
		file, _ := writePack(t, testPack(other, audit.Filter{}))
		if v, err := VerifyPack(file, key); err != nil || v.Damage != audit.SignatureWrong {
			t.Errorf("%+v, %v", v, err)
		}
		verifyByScript(t, file, key, 1, "not signed by key")
		whole(t, file, "", 1)
	})
}

func policyFile(name string) string { return packPolicies + hex64(testBundle) + "/" + name }

// spoilHash changes the first hash of a proof's path.
func spoilHash(t *testing.T, files map[string][]byte, name string) {
	t.Helper()
	lines := strings.Split(string(files[name]), "\n")
	h := []byte(lines[3])
	h[0] = 'A' + (h[0]-'A'+1)%26
	lines[3] = string(h)
	files[name] = []byte(strings.Join(lines, "\n"))
}

// TestPackBytes flips bytes all over the archive: nothing passes unseen but
// what the archive's own structure ignores.
func TestPackBytes(t *testing.T) {
	l := newLog(t, 0)
	good, _ := writePack(t, testPack(l, audit.Filter{Job: "one"}))
	raw := must(os.ReadFile(good))
	content := unzip(t, good)
	file := filepath.Join(t.TempDir(), "p.zip")
	for i := 0; i < len(raw); i += 23 {
		b := bytes.Clone(raw)
		b[i] ^= 1 << (i % 8)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := VerifyPack(file, l.VerifierKey())
		if err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
		if v.Whole && !maps.EqualFunc(unzip(t, file), content, bytes.Equal) {
			t.Errorf("byte %d was changed, and what is read with it, unseen", i)
		}
	}
}

// verifyByScript runs the verify.py that is in the pack, as a person without
// sallyport would.
func verifyByScript(t *testing.T, file, key string, want int, says string) {
	t.Helper()
	for _, tool := range []string{"python3", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("needs %s", tool)
			}
			t.Logf("verify.py is not run: needs %s", tool)
			return
		}
	}
	script := filepath.Join(t.TempDir(), packVerify)
	if err := os.WriteFile(script, verifyScript, 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "python3", script, "--key", key, file)
	out, _ := c.CombinedOutput()
	if got := c.ProcessState.ExitCode(); got != want || !strings.Contains(string(out), says) {
		t.Errorf("verify.py: exit %d, want %d and %q:\n%s", got, want, says, out)
	}
}

// TestPackByHand follows the README: unpack, sha256sum, python3 and openssl.
func TestPackByHand(t *testing.T) {
	for _, tool := range []string{"python3", "openssl", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			absent(t, tool)
		}
	}
	l := newLog(t, 0)
	file, _ := writePack(t, testPack(l, audit.Filter{}))
	dir := t.TempDir()
	for name, b := range unzip(t, file) {
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []string{"sha256sum -c --quiet SHA256SUMS", "python3 verify.py --key '" + l.VerifierKey() + "'", "python3 verify.py", "cd / && python3 " + dir + "/verify.py"} {
		c := exec.CommandContext(t.Context(), "sh", "-euc", step)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", step, err, out)
		}
	}
	c := exec.CommandContext(t.Context(), "python3", "verify.py", "--key", "nonsense")
	c.Dir = dir
	if _ = c.Run(); c.ProcessState.ExitCode() != 2 {
		t.Errorf("a key that is none: exit %d", c.ProcessState.ExitCode())
	}
}

// TestPackOfManyRecords: all records of a larger log, read in batches, and the
// archive's size in proportion.
func TestPackOfManyRecords(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 records")
	}
	l := newLog(t, 10_000-len(entries()))
	began := time.Now()
	file, s := writePack(t, testPack(l, audit.Filter{}))
	t.Logf("pack of %d records, %d bytes, in %v", s.Records, must(os.Stat(file)).Size(), time.Since(began))
	began = time.Now()
	whole(t, file, l.VerifierKey(), 10_000)
	t.Logf("verified in %v", time.Since(began))
	began = time.Now()
	verifyByScript(t, file, l.VerifierKey(), 0, "whole: 10000 records")
	t.Logf("verified by verify.py in %v", time.Since(began))
}

func BenchmarkEvidence(b *testing.B) {
	l := newLog(b, 10_000-len(entries()))
	for b.Loop() {
		if _, err := Evidence(b.Context(), io.Discard, testPack(l, audit.Filter{})); err != nil {
			b.Fatal(err)
		}
	}
}
