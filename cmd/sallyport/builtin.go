package main

import (
	"context"
	"path/filepath"
	"time"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/csv"
	"sallyport/anonymize/jsonl"
	"sallyport/anonymize/parquet"
	"sallyport/anonymize/transform"
	"sallyport/examples"
	"sallyport/gateway"
	"sallyport/internal/plug"
	"sallyport/routing"
	"sallyport/routing/local"
	"sallyport/routing/network"
	"sallyport/seal"
	"sallyport/seal/keyfile"
	"sallyport/seal/vault"
	"sallyport/store"
	"sallyport/store/dir"
	"sallyport/store/mem"
	"sallyport/store/s3"
)

// This file is the one list of what this binary can do. To add a thing, write
// its file or folder and name it here; `sallyport kinds` prints the list.

func formats() []formatKind {
	return []formatKind{
		{csv.New(), "delimited text; options for delimiter, quotes, header, encoding and empty values; gzip, zstd"},
		{jsonl.New(), "JSON Lines and FHIR NDJSON, nested paths as columns; gzip, zstd"},
		{parquet.New(), "Apache Parquet, nested columns and lists; types and compression kept"},
	}
}

type formatKind struct {
	anonymize.Format
	doc string
}

func transforms() []anonymize.Transform {
	return []anonymize.Transform{
		transform.Drop{},
		transform.Mask{},
		transform.Replace{},
		transform.Pseudonym{},
		transform.FF1{},
		transform.Encrypt{},
		transform.Generalize{},
		transform.Date{},
		transform.Prefix{},
		transform.Hierarchy{},
		transform.ZIP3{},
		transform.ShiftDate{},
		transform.Cap{},
		transform.Age90{},
		transform.Round{},
		transform.Microaggregate{},
	}
}

// opened is a store or issuer kind's way to be opened under a name, with paths
// resolved by the configuration it stands in.
type opener struct {
	cfg  *Config
	name string
	now  func() time.Time
}

func (o opener) stores() plug.Set[store.Store] {
	return plug.NewSet("store",
		plug.Of("dir", "a folder of this machine: atomic, synced, no way out of it", func(_ context.Context, c dir.Config) (store.Store, error) {
			c.Path = o.cfg.path(c.Path)
			return dir.Open(o.name, c)
		}),
		plug.Of("s3", "a bucket of an S3 server: multipart, versions, encryption by the server", func(_ context.Context, c s3.Config) (store.Store, error) {
			c.CAFile, c.CredentialsFile = o.cfg.path(c.CAFile), o.cfg.path(c.CredentialsFile)
			return s3.Open(o.name, c)
		}),
		plug.Of("mem", "this process's memory, gone when it ends: for trials", func(_ context.Context, c mem.Config) (store.Store, error) {
			return mem.Open(o.name, c)
		}),
	)
}

// keyIssuer is an issuer that can also derive the site's stable secrets.
type keyIssuer interface {
	seal.Issuer
	seal.Deriver
	Close() error
}

func (o opener) issuers() plug.Set[keyIssuer] {
	return plug.NewSet("issuer",
		plug.Of("keyfile", "keys under a root key in a folder of this machine", func(_ context.Context, c keyfile.Config) (keyIssuer, error) {
			c.Dir = o.cfg.path(c.Dir)
			return keyfile.Open(c, o.now)
		}),
		plug.Of("vault", "keys in HashiCorp Vault or OpenBao: one transit key a release, deleted with it", func(ctx context.Context, c vault.Config) (keyIssuer, error) {
			return vault.Open(ctx, c.Resolve(o.cfg.path), vault.Parts{Now: o.now, StateDir: filepath.Join(o.cfg.path(o.cfg.State), "vault")})
		}),
	)
}

func (w *wiring) backends() plug.Set[routing.Backend] {
	return plug.NewSet("backend",
		plug.Of("local", "this machine: child processes without network", func(_ context.Context, c local.Config) (routing.Backend, error) {
			return w.openLocal(c)
		}),
		plug.Of("network", "independent nodes that dial in, over embedded NATS JetStream and pinned TLS", func(ctx context.Context, c network.Config) (routing.Backend, error) {
			return w.openNetwork(ctx, c)
		}),
	)
}

// algorithms are the modules built into this binary.
func algorithms() map[string]builtinModule {
	return map[string]builtinModule{
		"features": {examples.Features, "feature extraction over a CSV: per-column summaries and group means"},
	}
}

type builtinModule struct {
	wasm []byte
	doc  string
}

func (m builtinModule) algorithm(name string) gateway.Algorithm {
	return gateway.Algorithm{Module: routing.Module{Name: name, Digest: sallyport.DigestOf(m.wasm), Runner: "wasm"}, Doc: m.doc, Media: "text/csv"}
}
