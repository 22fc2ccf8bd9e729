package bench

import (
	"bytes"
	"context"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"

	"sallyport"
	"sallyport/seal"
	"sallyport/seal/keyfile"
	"sallyport/seal/vault"
)

// SealOptions say how much [Seal] measures.
type SealOptions struct {
	Size  int // MB that are sealed and opened at a time, held in memory
	Runs  int // of each contender; the median counts
	Reads int // random reads a run
	Keys  int // keys that are issued, fetched, wrapped and destroyed

	// Vault is a real server to issue keys on; nil: none is measured.
	Vault *vault.Config
	// Dir is an existing folder for the keys. What is written there is removed
	// again.
	Dir string
	// Progress is told what is being measured, a line each.
	Progress io.Writer
}

// chunkBytes is the size of a chunk of the age format.
const chunkBytes = 64 << 10

// Seal measures sealing and opening beside age and the bare cipher, on one core
// and on all, reading at random offsets, and the life of a release's key.
func Seal(ctx context.Context, o SealOptions) (_ []Figure, err error) {
	if o.Size < 1 || o.Runs < 1 || o.Reads < 1 || o.Keys < 1 {
		return nil, sallyport.Errorf("bench", sallyport.Invalid, "Sizes are in MB; all are at least 1.",
			"size %d, runs %d, reads %d, keys %d", o.Size, o.Runs, o.Reads, o.Keys)
	}
	dir, err := os.MkdirTemp(o.Dir, "sallyport-bench-")
	if err != nil {
		return nil, sallyport.E("bench", sallyport.Unavailable, err, "Name a folder that you may write to.")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &sealBench{SealOptions: o, say: Options{Progress: o.Progress}.say, dir: dir, machine: Machine()}
	var figures []Figure
	for _, kind := range []string{"hybrid", "X25519"} {
		more, err := b.streams(ctx, kind)
		if err != nil {
			return nil, err
		}
		figures = append(figures, more...)
	}
	more, err := b.keys(ctx)
	return append(figures, more...), err
}

type sealBench struct {
	SealOptions
	say     func(format string, args ...any)
	dir     string
	machine string
}

// streams measures one kind of recipient.
func (b *sealBench) streams(ctx context.Context, kind string) ([]Figure, error) {
	id, key, err := twins(filepath.Join(b.dir, kind), kind == "hybrid")
	if err != nil {
		return nil, err
	}
	size := int64(b.Size) * MB
	// Random bytes, again and again: neither cipher looks at what it encrypts.
	piece := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(piece) // not a key
	fill := func(w io.WriteCloser) error {
		for left := size; left > 0; left -= int64(len(piece)) {
			if _, err := w.Write(piece[:min(left, int64(len(piece)))]); err != nil {
				return err
			}
		}
		return w.Close()
	}
	var sealed bytes.Buffer
	sealed.Grow(int(size + size/1000 + 4096))
	if w, err := seal.Writer(&sealed, key.Recipient()); err != nil {
		return nil, err
	} else if err := fill(w); err != nil {
		return nil, err
	}
	drain := func(r io.Reader, err error) error {
		if err != nil {
			return err
		}
		s := new(sink)
		_, err = io.CopyBuffer(s, struct{ io.Reader }{r}, make([]byte, buffer))
		if err == nil && s.n != size {
			err = sallyport.Errorf("bench", sallyport.Internal, "", "opened %d bytes of %d", s.n, size)
		}
		return err
	}
	ours := &contender{name: "seal.Writer, " + kind, run: func() error {
		w, err := seal.Writer(new(sink), key.Recipient())
		if err != nil {
			return err
		}
		return fill(w)
	}}
	theirs := &contender{name: "age.Encrypt, " + kind, run: func() error {
		w, err := age.Encrypt(new(sink), id.Recipient())
		if err != nil {
			return err
		}
		return fill(w)
	}}
	raw := &contender{name: "raw seal", run: func() error { return rawChunks(size, false) }}
	ourOpen := &contender{name: "seal.Reader, " + kind, run: func() error {
		return drain(seal.Reader(bytes.NewReader(sealed.Bytes()), key))
	}}
	theirOpen := &contender{name: "age.Decrypt, " + kind, run: func() error {
		return drain(age.Decrypt(bytes.NewReader(sealed.Bytes()), id.Identity))
	}}
	rawOpen := &contender{name: "raw open", run: func() error { return rawChunks(size, true) }}

	var figures []Figure
	cores := runtime.GOMAXPROCS(0)
	for _, n := range slices.Compact([]int{1, cores}) {
		runtime.GOMAXPROCS(n)
		err := b.turns(ctx, kind, n, size, ours, theirs, raw, ourOpen, theirOpen, rawOpen)
		runtime.GOMAXPROCS(cores)
		if err != nil {
			return nil, err
		}
		on := fmt.Sprintf(", %s, on %s", kind, plural(n, "core"))
		note := fmt.Sprintf("%s; %s; each after one that does not count; %d MB from and to memory, every byte copied once by the sink", b.machine, Times(b.Runs), b.Size)
		bare := fmt.Sprintf("%s; the peer encrypts one buffer of 64 KiB in place again and again, %s at once: no format, no copy", note, plural(n, "thread"))
		figures = append(figures,
			New("seal"+on, Median(ours.mbps), "MB/s", note).Against("age.Encrypt", Median(theirs.mbps)),
			New("seal"+on, Median(ours.mbps), "MB/s", bare).Against("raw ChaCha20-Poly1305", Median(raw.mbps)),
			New("open"+on, Median(ourOpen.mbps), "MB/s", note).Against("age.Decrypt", Median(theirOpen.mbps)),
			New("open"+on, Median(ourOpen.mbps), "MB/s", bare).Against("raw ChaCha20-Poly1305", Median(rawOpen.mbps)))
		if n > 1 {
			continue
		}
		// What else the machine does takes time from a process, and hardly adds
		// to its time on the cores.
		note += "; all threads, user and system; lower is better"
		figures = append(figures, cpuFigure("CPU time to seal"+on, note, ours.cpu, "age.Encrypt", theirs.cpu)...)
		figures = append(figures, cpuFigure("CPU time to seal"+on, note, ours.cpu, "raw ChaCha20-Poly1305", raw.cpu)...)
		figures = append(figures, cpuFigure("CPU time to open"+on, note, ourOpen.cpu, "age.Decrypt", theirOpen.cpu)...)
		figures = append(figures, cpuFigure("CPU time to open"+on, note, ourOpen.cpu, "raw ChaCha20-Poly1305", rawOpen.cpu)...)
	}
	f, err := b.random(ctx, kind, key, id.Identity, sealed.Bytes())
	return append(figures, f), err
}

// cpuFigure is empty where the system does not say, or not as finely as needed.
func cpuFigure(name, note string, ours []float64, peer string, theirs []float64) []Figure {
	mine, other := Median(ours), Median(theirs)
	if mine <= 0 || other <= 0 {
		return nil
	}
	return []Figure{New(name, mine, "ms/MB", note).Against(peer, other)}
}

// turns measures contenders in turn, every other time from the last to the
// first, for each meets the caches as the one before left them.
func (b *sealBench) turns(ctx context.Context, kind string, cores int, size int64, all ...*contender) error {
	all = slices.Clone(all)
	for _, c := range all {
		c.mbps, c.cpu = nil, nil
	}
	for run := range b.Runs {
		b.say("%s, %s: run %d of %d", kind, plural(cores, "core"), run+1, b.Runs)
		for _, c := range all {
			// Once for nothing: who garbage-collects needs pages that the one
			// before may have left with the system.
			if err := c.run(); err != nil {
				return err
			}
			if err := c.measure(ctx, size); err != nil {
				return err
			}
		}
		slices.Reverse(all)
	}
	return nil
}

// random reads 64 KiB at random offsets.
func (b *sealBench) random(ctx context.Context, kind string, key *seal.Key, id age.Identity, sealed []byte) (Figure, error) {
	ours, size, err := seal.ReaderAt(bytes.NewReader(sealed), int64(len(sealed)), key)
	if err != nil {
		return Figure{}, err
	}
	theirs, _, err := age.DecryptReaderAt(bytes.NewReader(sealed), int64(len(sealed)), id)
	if err != nil {
		return Figure{}, err
	}
	buf := make([]byte, min(chunkBytes, size))
	measure := func(r io.ReaderAt, seed uint64) (float64, error) {
		where := rand.New(rand.NewPCG(seed, 0)) // offsets
		began := time.Now()
		for range b.Reads {
			if n, err := r.ReadAt(buf, where.Int64N(size-int64(len(buf))+1)); n < len(buf) {
				return 0, err
			}
		}
		return float64(b.Reads) / time.Since(began).Seconds(), ctx.Err()
	}
	b.say("%s: reading at random offsets", kind)
	type reader struct {
		r  io.ReaderAt
		to *[]float64
	}
	var mine, other []float64
	turn := []reader{{ours, &mine}, {theirs, &other}}
	for run := range uint64(b.Runs) {
		slices.Reverse(turn)
		for _, c := range turn {
			v, err := measure(c.r, run)
			if err != nil {
				return Figure{}, sallyport.E("bench", sallyport.Internal, err, "")
			}
			*c.to = append(*c.to, v)
		}
	}
	return New("random reads of 64 KiB, "+kind, Median(mine), "reads/s",
		fmt.Sprintf("%s; %s of %d reads, one at a time, at any offset of %d MB in memory: nearly each opens two chunks", b.machine, Times(b.Runs), b.Reads, b.Size)).
		Against("age.DecryptReaderAt", Median(other)), nil
}

// rawChunks seals or opens as many chunks as there are in size, on all cores.
func rawChunks(size int64, open bool) error {
	chunks := (size + chunkBytes - 1) / chunkBytes
	workers := int64(runtime.GOMAXPROCS(0))
	errs := make([]error, workers)
	var done sync.WaitGroup
	for w := range workers {
		done.Go(func() {
			aead, err := chacha20poly1305.New(make([]byte, chacha20poly1305.KeySize))
			if err != nil {
				errs[w] = err
				return
			}
			errs[w] = rawWork(aead, w, workers, chunks, open)
		})
	}
	done.Wait()
	return errors.Join(errs...)
}

func rawWork(aead cipher.AEAD, from, step, chunks int64, open bool) error {
	var nonce [chacha20poly1305.NonceSize]byte
	buf := make([]byte, chunkBytes, chunkBytes+chacha20poly1305.Overhead)
	out := make([]byte, 0, chunkBytes)
	sealed := aead.Seal(nil, nonce[:], buf, nil)
	for i := from; i < chunks; i += step {
		if open { // the same chunk each time: what is measured is the cipher
			if _, err := aead.Open(out, nonce[:], sealed, nil); err != nil {
				return err
			}
			continue
		}
		binary.BigEndian.PutUint64(nonce[3:11], uint64(i))
		aead.Seal(buf[:0], nonce[:], buf, nil)
	}
	return nil
}

// identity is an age identity with its recipient.
type identity struct {
	age.Identity
	recipient age.Recipient
	text      string
}

func (i identity) Recipient() age.Recipient { return i.recipient }

// twins makes an identity and gives it to both sides.
func twins(file string, hybrid bool) (identity, *seal.Key, error) {
	var id identity
	if hybrid {
		k, err := age.GenerateHybridIdentity()
		if err != nil {
			return id, nil, err
		}
		id = identity{k, k.Recipient(), k.String()}
	} else {
		k, err := age.GenerateX25519Identity()
		if err != nil {
			return id, nil, err
		}
		id = identity{k, k.Recipient(), k.String()}
	}
	if err := os.WriteFile(file, []byte(id.text+"\n"), 0o600); err != nil {
		return id, nil, sallyport.E("bench", sallyport.Unavailable, err, "")
	}
	key, err := seal.Load(file)
	return id, key, err
}

// keyIssuer is what the life of a key is measured on.
type keyIssuer interface {
	seal.Issuer
	Close() error
}

// keys measures the life of keys on the key file issuer, and on Vault where one
// is named.
func (b *sealBench) keys(ctx context.Context) ([]Figure, error) {
	files, err := keyfile.Open(keyfile.Config{Dir: filepath.Join(b.dir, "keys")}, time.Now)
	if err != nil {
		return nil, err
	}
	b.say("keys on the key file issuer")
	base, err := b.life(ctx, files)
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%s; median of %d, one at a time, hybrid keys, each step durable", b.machine, b.Keys)
	without := note
	if b.Vault == nil {
		without += "; no Vault was named, so none was measured"
		b.say("no Vault named: name one with --vault and --vault-token-file to measure it")
	}
	var figures []Figure
	for _, s := range steps {
		if v, ok := base[s]; ok {
			figures = append(figures, New("key "+s+", key file issuer", v, "ms", without))
		}
	}
	if b.Vault == nil {
		return figures, nil
	}
	server, err := vault.Open(ctx, *b.Vault, vault.Parts{Now: time.Now, StateDir: filepath.Join(b.dir, "vault")})
	if err != nil {
		return nil, err
	}
	b.say("keys on Vault")
	took, err := b.life(ctx, server)
	if err != nil {
		return nil, err
	}
	for _, s := range steps {
		v, ok := took[s]
		if !ok {
			continue
		}
		f := New("key "+s+", Vault", v, "ms", note+"; Vault is asked each time")
		if peer, ok := base[s]; ok {
			f = f.Against("key file issuer", peer)
		}
		figures = append(figures, f)
	}
	return figures, nil
}

// steps of a key's life, in order.
var steps = [...]string{"issue", "fetch", "wrap to a node", "hand over by token", "destroy"}

// life takes keys from birth to end and returns the median of each step in ms.
// The issuer is closed; all its keys are destroyed, whatever happens.
func (b *sealBench) life(ctx context.Context, issuer keyIssuer) (_ map[string]float64, err error) {
	defer func() { err = errors.Join(err, issuer.Close()) }()
	node, err := seal.Generate()
	if err != nil {
		return nil, err
	}
	took := map[string][]float64{}
	timed := func(step string, do func() error) error {
		began := time.Now()
		if err := do(); err != nil {
			return err
		}
		took[step] = append(took[step], time.Since(began).Seconds()*1000)
		return nil
	}
	stamp := time.Now().UnixNano()
	for n := range b.Keys {
		err := func() (err error) {
			var lease seal.Lease
			if err := timed(steps[0], func() error {
				lease, err = issuer.Issue(ctx, fmt.Sprintf("release/bench-%x-%d", stamp, n), time.Hour)
				return err
			}); err != nil {
				return err
			}
			ended := false
			defer func() {
				if !ended {
					err = errors.Join(err, issuer.Destroy(context.WithoutCancel(ctx), lease.ID, "bench"))
				}
			}()
			var key *seal.Key
			if err := timed(steps[1], func() error {
				key, err = issuer.Fetch(ctx, lease.ID)
				return err
			}); err != nil {
				return err
			}
			if err := timed(steps[2], func() error {
				_, err := key.Wrap(node.Recipient())
				return err
			}); err != nil {
				return err
			}
			if w, ok := issuer.(seal.Wrapper); ok {
				if err := timed(steps[3], func() error {
					_, err := w.Wrapped(ctx, lease.ID, time.Minute)
					return err
				}); err != nil {
					return err
				}
			}
			return timed(steps[4], func() error {
				err := issuer.Destroy(ctx, lease.ID, "bench")
				ended = err == nil
				return err
			})
		}()
		if err != nil {
			return nil, err
		}
	}
	out := map[string]float64{}
	for s, v := range took {
		out[s] = Median(v)
	}
	return out, nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
