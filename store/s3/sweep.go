package s3

import (
	"context"
	"time"

	"github.com/minio/minio-go/v7"

	"sallyport"
)

// probe asks whether the bucket is what the configuration says, and removes
// what crashed writers left. That the credentials may not ask is no error: to
// read a source needs less.
func (s *Store) probe(ctx context.Context, op string) error {
	if s.versioned {
		v, err := s.core.GetBucketVersioning(ctx, s.bucket)
		if err != nil {
			if err := s.fault(ctx, op, err); !mayNotAsk(err) {
				return err
			}
		} else if !v.Enabled() {
			return sallyport.Errorf(op, sallyport.Invalid, "Enable versioning on the bucket, or leave `versioned` out.", "bucket %q keeps no versions", s.bucket)
		}
	}
	return s.sweep(ctx)
}

// mayNotAsk tells credentials that are good but not for this from bad ones.
func mayNotAsk(e *sallyport.Error) bool { return e.Kind == sallyport.Denied && e.Hint == deniedHint }

// sweep aborts multipart uploads below the prefix that were begun long ago. The
// age is the server's word against this machine's clock; more than 15 minutes
// between them and the server would have refused the question.
func (s *Store) sweep(ctx context.Context) error {
	const op = "remove unfinished uploads"
	ctx, cancel := context.WithTimeout(ctx, 2*aftermath)
	defer cancel()
	keyMarker, idMarker := "", ""
	for {
		page, err := s.core.ListMultipartUploads(ctx, s.bucket, s.prefix, keyMarker, idMarker, "", 1000)
		if err != nil {
			err := s.fault(ctx, op, err)
			if mayNotAsk(err) || err.Kind == sallyport.Unsupported {
				s.swept.Store(true)
				return nil
			}
			if err.Kind == sallyport.Canceled {
				err.Kind = sallyport.Unavailable
			}
			return err
		}
		for _, u := range page.Uploads {
			if s.stale > 0 && time.Since(u.Initiated) > s.stale {
				s.abandon(ctx, u)
			}
		}
		if !page.IsTruncated || page.NextKeyMarker == keyMarker && page.NextUploadIDMarker == idMarker {
			s.swept.Store(true)
			return nil
		}
		keyMarker, idMarker = page.NextKeyMarker, page.NextUploadIDMarker
	}
}

func (s *Store) abandon(ctx context.Context, u minio.ObjectMultipartInfo) {
	s.core.AbortMultipartUpload(ctx, s.bucket, u.Key, u.UploadID) // else the next sweep does
}
