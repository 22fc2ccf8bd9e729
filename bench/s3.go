package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"sallyport"
)

// S3Options say how much [S3] measures, and of what.
type S3Options struct {
	Size    int // MB of the large objects
	Runs    int // of each contender; the median counts
	Small   int // requests for small objects
	Streams int // concurrent downloads whose memory is measured

	// Door is the command line that makes a process open the S3 door of a
	// gateway and call [Answer].
	Door []string
	// Peer is the command line that makes a process call [Peer] with one more
	// argument.
	Peer []string
	// Raw and Masked are datasets of the door, one a run, that nobody has looked
	// at yet: each is a [Table] of Size MB. Policy leaves all of Raw as it is.
	Raw, Masked []string
	// Tiny is a dataset of one [Table] of SmallBytes, which policy leaves as it
	// is.
	Tiny string
	// Key is the name of the object of each of them.
	Key string

	// Dir is an existing folder for the peers' copies of the objects. What is
	// written there is removed again.
	Dir string
	// Progress is told what is being measured, a line each.
	Progress io.Writer
}

// SmallBytes is the size of the small objects.
const SmallBytes = 4 << 10

// streamMB is what each of the concurrent downloads reads at most.
const streamMB = 64

// S3 measures the S3 door beside a bare file server, directly and behind a bare
// reverse proxy, each in a process of its own, all with the same client.
func S3(ctx context.Context, o S3Options) (_ []Figure, err error) {
	if o.Size < 1 || o.Runs < 1 || o.Small < 1 || o.Streams < 1 || len(o.Raw) < o.Runs || len(o.Masked) < o.Runs {
		return nil, sallyport.Errorf("bench", sallyport.Invalid, "Sizes are in MB; all are at least 1.",
			"size %d, runs %d, small %d, streams %d", o.Size, o.Runs, o.Small, o.Streams)
	}
	dir, err := os.MkdirTemp(o.Dir, "sallyport-bench-")
	if err != nil {
		return nil, sallyport.E("bench", sallyport.Unavailable, err, "Name a folder that you may write to.")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &s3Bench{S3Options: o, say: Options{Progress: o.Progress}.say, machine: Machine()}
	if err := b.lay(dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	if b.door, err = b.start(ctx, o.Door); err != nil {
		return nil, err
	}
	if b.direct, err = b.start(ctx, o.Peer, peerTask{Files: dir}.String()); err != nil {
		return nil, err
	}
	if b.proxy, err = b.start(ctx, o.Peer, peerTask{Upstream: "http://" + b.direct.Address}.String()); err != nil {
		return nil, err
	}
	var figures []Figure
	for _, part := range []func(context.Context) ([]Figure, error){b.views, b.gets, b.smallGets, b.puts, b.smallPuts, b.memory} {
		more, err := part(ctx)
		if err != nil {
			return nil, err
		}
		figures = append(figures, more...)
	}
	return figures, nil
}

type s3Bench struct {
	S3Options
	say     func(format string, args ...any)
	machine string
	started []*contestant

	door, direct, proxy *contestant
}

// The peers' buckets.
const (
	peerBucket = "bench"
	scratch    = "scratch"
	smallName  = "small.csv"
)

// lay writes the bytes of the raw views to where the peers find them.
func (b *s3Bench) lay(dir string) error {
	fail := func(err error) error { return sallyport.E("bench", sallyport.Unavailable, err, "") }
	for _, d := range []string{peerBucket, scratch} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return fail(err)
		}
	}
	b.say("laying the peers' objects, %d MB", b.Size)
	for name, size := range map[string]int64{b.Key: int64(b.Size) * MB, smallName: SmallBytes} {
		f, err := os.OpenFile(filepath.Join(dir, peerBucket, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return fail(err)
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{NewTable(size, false)}, make([]byte, buffer))
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return fail(err)
		}
	}
	return nil
}

// views measures what the first reader of a view waits for.
func (b *s3Bench) views(ctx context.Context) ([]Figure, error) {
	var figures []Figure
	for _, kind := range []struct {
		name, about string
		datasets    []string
	}{
		{"raw view", "policy leaves all 10 columns as they are", b.Raw},
		{"masked view", "policy demands pseudonyms in 2 of 10 columns and leaves 8 as they are", b.Masked},
	} {
		var made, first, second []float64
		for run := range b.Runs {
			b.say("%s: run %d of %d", kind.name, run+1, b.Runs)
			began := time.Now()
			info, err := b.door.client.StatObject(ctx, kind.datasets[run], b.Key, minio.StatObjectOptions{})
			if err != nil {
				return nil, failed(err)
			}
			took := time.Since(began).Seconds()
			if size := NewTable(int64(b.Size)*MB, false).Size(); kind.name == "raw view" && info.Size != size {
				return nil, sallyport.Errorf("bench", sallyport.Internal, "", "the raw view has %d bytes, the table %d", info.Size, size)
			}
			made = append(made, float64(b.Size)/took)
			one, err := b.door.get(ctx, kind.datasets[run], b.Key, 0)
			if err != nil {
				return nil, err
			}
			two, err := b.door.get(ctx, kind.datasets[run], b.Key, 0)
			if err != nil {
				return nil, err
			}
			first, second = append(first, took+one.Seconds()), append(second, two.Seconds())
		}
		note := fmt.Sprintf("%s; %s; a local view of %d MB, %s; parsed, counted, judged and recorded; a raw view is then read where it lies, a masked one was sealed into a synced hold", b.machine, Times(b.Runs), b.Size, kind.about)
		figures = append(figures,
			New(kind.name+" made", Median(made), "MB/s", note),
			New(kind.name+", first read in full", Median(first), "s", note+"; made on demand; lower is better").Against("the same read again", Median(second)))
	}
	return figures, nil
}

func (b *s3Bench) gets(ctx context.Context) ([]Figure, error) {
	asked := []struct {
		*contestant
		bucket string
		work   []*contestant // the processes that it takes
	}{
		{b.door, b.Raw[b.Runs-1], []*contestant{b.door}},
		{b.door, b.Masked[b.Runs-1], []*contestant{b.door}},
		{b.proxy, peerBucket, []*contestant{b.proxy, b.direct}},
		{b.direct, peerBucket, []*contestant{b.direct}},
	}
	at, cpu := make([][]float64, len(asked)), make([][]float64, len(asked))
	for run := -1; run < b.Runs; run++ { // the first warms up connections and caches
		if run >= 0 {
			b.say("GET of %d MB: run %d of %d", b.Size, run+1, b.Runs)
		}
		for i, c := range asked {
			before, err := cpuOf(c.work)
			if err != nil {
				return nil, err
			}
			took, err := c.get(ctx, c.bucket, b.Key, 0)
			if err != nil {
				return nil, err
			}
			after, err := cpuOf(c.work)
			if err != nil {
				return nil, err
			}
			if run >= 0 {
				at[i] = append(at[i], float64(b.Size)/took.Seconds())
				cpu[i] = append(cpu[i], (after-before).Seconds()*1000/float64(b.Size))
			}
		}
	}
	note := fmt.Sprintf("%s; %s; minio-go on loopback without TLS, every process on the same cores; decided by policy and recorded; the peers send plain bytes and decide nothing", b.machine, Times(b.Runs))
	var figures []Figure
	for i, kind := range []string{"a raw view, read where it lies", "a masked view, which rests sealed and is decrypted as it is sent"} {
		name, _, _ := strings.Cut(kind, ",")
		note := note + "; " + kind
		f := New(fmt.Sprintf("GET of %d MB through the door, %s", b.Size, name), Median(at[i]), "MB/s", note)
		figures = append(figures, f.Against(proxyPeer, Median(at[2])), f.Against(directPeer, Median(at[3])))
		figures = append(figures, cpuFigure(fmt.Sprintf("CPU time of a GET of %d MB, %s", b.Size, name), note+"; of the servers, without the client; user and system; lower is better",
			cpu[i], proxyPeer, cpu[2])...)
	}
	return figures, nil
}

const (
	proxyPeer  = "bare file server behind a bare reverse proxy"
	directPeer = "bare file server, direct (sendfile)"
)

// cpuOf is what processes have used of all cores.
func cpuOf(all []*contestant) (sum time.Duration, err error) {
	for _, c := range all {
		u, err := c.used()
		if err != nil {
			return 0, err
		}
		sum += u.CPU
	}
	return sum, nil
}

func (b *s3Bench) smallGets(ctx context.Context) ([]Figure, error) {
	asked := []struct {
		*contestant
		bucket, key string
	}{{b.door, b.Tiny, b.Key}, {b.proxy, peerBucket, smallName}, {b.direct, peerBucket, smallName}}
	b.say("GET of 4 KiB, %d times", b.Small)
	at := make([][]float64, len(asked))
	for n := -3; n < b.Small; n++ {
		for i, c := range asked {
			took, err := c.get(ctx, c.bucket, c.key, 0)
			if err != nil {
				return nil, err
			}
			if n >= 0 {
				at[i] = append(at[i], took.Seconds()*1000)
			}
		}
	}
	note := fmt.Sprintf("%s; median of %d, one at a time; the door's signature is verified, the access decided by policy and recorded durably before the first byte; a raw view; lower is better",
		b.machine, b.Small)
	f := New("GET of 4 KiB through the door, p50", Median(at[0]), "ms", note)
	return []Figure{
		f.Against(proxyPeer, Median(at[1])),
		f.Against(directPeer, Median(at[2])),
	}, nil
}

func (b *s3Bench) puts(ctx context.Context) ([]Figure, error) {
	at := make([][]float64, 2)
	size := int64(b.Size) * MB
	for run := range b.Runs {
		b.say("PUT of %d MB: run %d of %d", b.Size, run+1, b.Runs)
		for i, c := range []*contestant{b.door, b.direct} {
			took, err := c.put(ctx, fmt.Sprintf("big-%d.bin", run), size)
			if err != nil {
				return nil, err
			}
			at[i] = append(at[i], float64(b.Size)/took.Seconds())
		}
	}
	note := fmt.Sprintf("%s; %s; minio-go, one request, every chunk signed and, at the door, verified; digests of the whole taken, sealed into a synced hold, recorded; the peer verifies nothing, writes plain bytes and syncs them",
		b.machine, Times(b.Runs))
	return []Figure{New(fmt.Sprintf("PUT of %d MB into scratch", b.Size), Median(at[0]), "MB/s", note).Against("bare PUT handler with fsync", Median(at[1]))}, nil
}

func (b *s3Bench) smallPuts(ctx context.Context) ([]Figure, error) {
	b.say("PUT of 4 KiB, %d times", b.Small)
	at := make([][]float64, 2)
	for n := -3; n < b.Small; n++ {
		for i, c := range []*contestant{b.door, b.direct} {
			took, err := c.put(ctx, fmt.Sprintf("small-%d.bin", n+3), SmallBytes)
			if err != nil {
				return nil, err
			}
			if n >= 0 {
				at[i] = append(at[i], took.Seconds()*1000)
			}
		}
	}
	note := fmt.Sprintf("%s; median of %d, one at a time; with a key of its own for each object, made durable, and intent and outcome recorded durably; lower is better", b.machine, b.Small)
	return []Figure{New("PUT of 4 KiB into scratch, p50", Median(at[0]), "ms", note).Against("bare PUT handler with fsync", Median(at[1]))}, nil
}

// memory measures in fresh processes what concurrent downloads add to the
// peak of one.
func (b *s3Bench) memory(ctx context.Context) ([]Figure, error) {
	length := int64(min(b.Size, streamMB)) * MB
	measure := func(bucket string, command []string, args ...string) (grown, before float64, err error) {
		c, err := b.start(ctx, command, args...)
		if err != nil {
			return 0, 0, err
		}
		if _, err := c.get(ctx, bucket, b.Key, length); err != nil {
			return 0, 0, err
		}
		low, err := c.used()
		if err != nil {
			return 0, 0, err
		}
		if err := c.flood(ctx, bucket, b.Key, b.Streams, length); err != nil {
			return 0, 0, err
		}
		high, err := c.used()
		return float64(high.Peak-low.Peak) / float64(b.Streams) / (1 << 20), float64(low.Peak) / (1 << 20), errors.Join(err, c.stop())
	}
	if err := b.door.stop(); err != nil { // two gateways cannot share a folder
		return nil, err
	}
	var ours, theirs, before []float64
	for run := range b.Runs {
		b.say("memory of %s: run %d of %d", plural(b.Streams, "download"), run+1, b.Runs)
		grown, base, err := measure(b.Raw[b.Runs-1], b.Door)
		if err != nil {
			return nil, err
		}
		ours, before = append(ours, grown), append(before, base)
		if grown, _, err = measure(peerBucket, b.Peer, peerTask{Upstream: "http://" + b.direct.Address}.String()); err != nil {
			return nil, err
		}
		theirs = append(theirs, grown)
	}
	note := fmt.Sprintf("%s; %s; growth of the %s of a fresh process from one download to %d at once, of %d MB each, divided by %d; the gateway had %.0f MiB after the one; lower is better",
		b.machine, Times(b.Runs), peakMeans, b.Streams, length/MB, b.Streams, Median(before))
	f := New("memory a stream, the door", Median(ours), "MiB", note)
	if peer := Median(theirs); f.Value > 0 && peer > 0 { // few small downloads may fit into what was there
		f = f.Against("bare reverse proxy", peer)
	}
	return []Figure{f}, nil
}

// contestant is a server in a process of its own, with a client for it.
type contestant struct {
	*process
	Endpoint
	client *minio.Client
}

func (b *s3Bench) start(ctx context.Context, command []string, args ...string) (*contestant, error) {
	p, e, err := startProcess(ctx, append(append([]string{}, command...), args...))
	if err != nil {
		return nil, err
	}
	c := &contestant{process: p, Endpoint: e}
	b.started = append(b.started, c)
	c.client, err = minio.New(e.Address, &minio.Options{
		Creds: credentials.NewStaticV4(e.AccessKey, e.Secret, ""), Region: e.Region, BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
		Transport: &http.Transport{MaxIdleConnsPerHost: b.Streams, DisableCompression: true},
	})
	if err != nil {
		return nil, sallyport.E("bench", sallyport.Internal, err, "")
	}
	return c, nil
}

func (b *s3Bench) stop() error {
	var errs []error
	for _, c := range b.started {
		errs = append(errs, c.stop())
	}
	return errors.Join(errs...)
}

// get reads an object, or its first bytes, and returns how long that took.
func (c *contestant) get(ctx context.Context, bucket, key string, length int64) (time.Duration, error) {
	began := time.Now()
	body, size, err := c.open(ctx, bucket, key, length)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{body}, make([]byte, buffer))
	took := time.Since(began)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	return took, failed(err)
}

// open sends one request, without the question for the object's size before it
// that minio-go's reader with seeking asks.
func (c *contestant) open(ctx context.Context, bucket, key string, length int64) (io.ReadCloser, int64, error) {
	o := minio.GetObjectOptions{}
	if length > 0 {
		if err := o.SetRange(0, length-1); err != nil {
			return nil, 0, failed(err)
		}
	}
	body, info, _, err := minio.Core{Client: c.client}.GetObject(ctx, bucket, key, o)
	return body, info.Size, failed(err)
}

func (c *contestant) put(ctx context.Context, key string, size int64) (time.Duration, error) {
	// Made in memory, for the client's reader must not be what is measured.
	piece := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{2}).Read(piece) // not a key
	began := time.Now()
	_, err := c.client.PutObject(ctx, scratch, key, &again{piece: piece, left: size}, size, minio.PutObjectOptions{DisableMultipart: true})
	took := time.Since(began)
	if err == nil {
		err = c.client.RemoveObject(ctx, scratch, key, minio.RemoveObjectOptions{})
	}
	return took, failed(err)
}

// flood downloads many times at once: nobody reads on before all have begun.
func (c *contestant) flood(ctx context.Context, bucket, key string, streams int, length int64) error {
	errs := make([]error, streams)
	var begun, done sync.WaitGroup
	begun.Add(streams)
	for i := range streams {
		done.Go(func() {
			body, _, err := c.open(ctx, bucket, key, length)
			begun.Done()
			begun.Wait()
			if err != nil {
				errs[i] = err
				return
			}
			defer body.Close()
			_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{body}, make([]byte, buffer))
			errs[i] = failed(err)
		})
	}
	done.Wait()
	return errors.Join(errs...)
}

// failed keeps what the client says; it quotes no data, only S3's own message.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return sallyport.E("bench", sallyport.Internal, err, "")
}

// again reads the same piece again and again.
type again struct {
	piece []byte
	at    int
	left  int64
}

func (a *again) Read(p []byte) (int, error) {
	if a.left == 0 {
		return 0, io.EOF
	}
	if a.at == len(a.piece) {
		a.at = 0
	}
	n := copy(p[:min(int64(len(p)), a.left)], a.piece[a.at:])
	a.at, a.left = a.at+n, a.left-int64(n)
	return n, nil
}

var _ io.Reader = (*again)(nil)
