package gateway

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"sallyport"
)

// Journal remembers which steps of which jobs are finished, so that a restart
// continues where a crash interrupted. What it holds carries no secret: lease
// IDs, never keys. Every write is durable when it returns.
type Journal struct{ db *bolt.DB }

var (
	jobsBucket     = []byte("jobs")     // job → Job
	stepsBucket    = []byte("steps")    // job NUL step → what the step made
	releasesBucket = []byte("releases") // dataset NUL time NUL job → sallyport.Release
	viewsBucket    = []byte("views")    // view key → View
	uploadsBucket  = []byte("uploads")  // upload → Upload
	stagingsBucket = []byte("stagings") // multipart upload → staging
	reviewsBucket  = []byte("reviews")  // job → Review
)

// OpenJournal opens or makes the journal at path. One process at a time.
func OpenJournal(path string) (*Journal, error) { return openJournal(path, false) }

// OpenJournalReadOnly opens an existing journal of a gateway that is not running.
func OpenJournalReadOnly(path string) (*Journal, error) { return openJournal(path, true) }

func openJournal(path string, readOnly bool) (*Journal, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, ReadOnly: readOnly})
	if err != nil {
		hint := "Check that the file is writable and the disk is not full."
		if errors.Is(err, berrors.ErrTimeout) {
			hint = "Another gateway uses it: ask that one, or stop it."
		}
		return nil, sallyport.E("open journal "+path, sallyport.Unavailable, err, hint)
	}
	if !readOnly {
		err = db.Update(func(tx *bolt.Tx) error {
			for _, b := range [][]byte{jobsBucket, stepsBucket, releasesBucket, viewsBucket, uploadsBucket, stagingsBucket, reviewsBucket} {
				if _, err := tx.CreateBucketIfNotExists(b); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			db.Close()
			return nil, journalError(err)
		}
	}
	return &Journal{db}, nil
}

// Close closes the file.
func (j *Journal) Close() error { return j.db.Close() }

func journalError(err error) error {
	return sallyport.E("journal", sallyport.Exhausted, err, "Free disk space and restart the gateway: it continues where it stopped.")
}

// done reports whether the step is finished, and if so decodes what it made.
func (j *Journal) done(job sallyport.JobID, step string, out any) (bool, error) {
	var found bool
	err := j.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket(stepsBucket).Get(key(string(job), step))
		if v == nil {
			return nil
		}
		found = true
		return json.Unmarshal(v, out)
	})
	if err != nil {
		return false, sallyport.E("journal", sallyport.Damaged, err, "")
	}
	return found, nil
}

// finish records what a step made, and the job's progress with it.
func (j *Journal) finish(job Job, step string, out any) error {
	v, err := json.Marshal(out)
	if err != nil {
		return sallyport.E("journal", sallyport.Internal, err, "")
	}
	return j.update(job, func(tx *bolt.Tx) error {
		return tx.Bucket(stepsBucket).Put(key(string(job.ID), step), v)
	})
}

// put records the job's state.
func (j *Journal) put(job Job) error { return j.update(job, func(*bolt.Tx) error { return nil }) }

// add records a new job. One of that name is a sallyport.Conflict.
func (j *Journal) add(job Job) error {
	err := j.update(job, func(tx *bolt.Tx) error { return nil }, func(tx *bolt.Tx) error {
		if tx.Bucket(jobsBucket).Get([]byte(job.ID)) != nil {
			return sallyport.Errorf("submit", sallyport.Conflict, "Choose another name.", "job %s exists already", job.ID)
		}
		return nil
	})
	return err
}

func (j *Journal) update(job Job, also func(*bolt.Tx) error, before ...func(*bolt.Tx) error) error {
	v, err := json.Marshal(job)
	if err != nil {
		return sallyport.E("journal", sallyport.Internal, err, "")
	}
	err = j.db.Update(func(tx *bolt.Tx) error {
		for _, f := range before {
			if err := f(tx); err != nil {
				return err
			}
		}
		if err := tx.Bucket(jobsBucket).Put([]byte(job.ID), v); err != nil {
			return err
		}
		return also(tx)
	})
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*sallyport.Error](err); ok {
		return err
	}
	return journalError(err)
}

// Job returns one job.
func (j *Journal) Job(id sallyport.JobID) (Job, error) {
	var job Job
	err := j.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(jobsBucket)
		if b == nil {
			return nil
		}
		v := b.Get([]byte(id))
		if v == nil {
			return nil
		}
		if err := json.Unmarshal(v, &job); err != nil {
			return err
		}
		return countAgreed(tx, &job)
	})
	if err != nil {
		return job, sallyport.E("journal", sallyport.Damaged, err, "")
	}
	if job.ID == "" {
		return job, sallyport.Errorf("job", sallyport.NotFound, "`sallyport job ls` lists them.", "no job %q", id)
	}
	return job, nil
}

// Jobs returns all jobs, oldest first.
func (j *Journal) Jobs() ([]Job, error) {
	var jobs []Job
	err := j.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(jobsBucket)
		if b == nil {
			return nil
		}
		return b.ForEach(func(_, v []byte) error {
			var job Job
			if err := json.Unmarshal(v, &job); err != nil {
				return err
			}
			if err := countAgreed(tx, &job); err != nil {
				return err
			}
			jobs = append(jobs, job)
			return nil
		})
	})
	if err != nil {
		return nil, sallyport.E("journal", sallyport.Damaged, err, "")
	}
	slices.SortStableFunc(jobs, func(a, b Job) int { return a.Submitted.Compare(b.Submitted) })
	return jobs, nil
}

// countAgreed fills in how many people agreed, which the review knows.
func countAgreed(tx *bolt.Tx, job *Job) error {
	b := tx.Bucket(reviewsBucket)
	if job.Review == nil || b == nil {
		return nil
	}
	v := b.Get([]byte(job.ID))
	if v == nil {
		return nil
	}
	var r Review
	if err := json.Unmarshal(v, &r); err != nil {
		return err
	}
	job.Review.Agreed = r.Agreed()
	return nil
}

// review returns the review of a job, or a sallyport.NotFound.
func (j *Journal) review(id sallyport.JobID) (Review, error) {
	var r Review
	err := j.db.View(func(tx *bolt.Tx) error {
		if v := tx.Bucket(reviewsBucket).Get([]byte(id)); v != nil {
			return json.Unmarshal(v, &r)
		}
		return nil
	})
	if err != nil {
		return r, sallyport.E("journal", sallyport.Damaged, err, "")
	}
	if r.Job == "" {
		return r, sallyport.Errorf("review", sallyport.NotFound, "`sallyport job review` lists what waits.", "job %s waits for no review", id)
	}
	return r, nil
}

// putReview keeps a review.
func (j *Journal) putReview(r Review) error {
	v, err := json.Marshal(r)
	if err != nil {
		return sallyport.E("journal", sallyport.Internal, err, "")
	}
	if err := j.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(reviewsBucket).Put([]byte(r.Job), v) }); err != nil {
		return journalError(err)
	}
	return nil
}

// addRelease adds a line to a dataset's release history, once per job.
func (j *Journal) addRelease(r sallyport.Release) error {
	v, err := json.Marshal(r)
	if err != nil {
		return sallyport.E("journal", sallyport.Internal, err, "")
	}
	stamp := binary.BigEndian.AppendUint64(nil, uint64(r.Time.UnixNano()))
	err = j.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(releasesBucket).Put(key(r.Dataset, string(stamp), string(r.Job)), v)
	})
	if err != nil {
		return journalError(err)
	}
	return nil
}

// Releases returns a dataset's release history, oldest first.
func (j *Journal) Releases(dataset string) ([]sallyport.Release, error) {
	out := []sallyport.Release{}
	err := j.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(releasesBucket)
		if b == nil {
			return nil
		}
		prefix := key(dataset, "")
		c := b.Cursor()
		for k, v := c.Seek(prefix); k != nil && len(k) > len(prefix) && string(k[:len(prefix)]) == string(prefix); k, v = c.Next() {
			var r sallyport.Release
			if err := json.Unmarshal(v, &r); err != nil {
				return err
			}
			out = append(out, r)
		}
		return nil
	})
	if err != nil {
		return nil, sallyport.E("journal", sallyport.Damaged, err, "")
	}
	return out, nil
}

// views returns every materialized view by its key.
func (j *Journal) views() (map[string]View, error) {
	out := map[string]View{}
	err := j.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(viewsBucket)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			var view View
			if err := json.Unmarshal(v, &view); err != nil {
				return err
			}
			out[string(k)] = view
			return nil
		})
	})
	if err != nil {
		return nil, sallyport.E("journal", sallyport.Damaged, err, "")
	}
	return out, nil
}

// putView keeps a view under its key, or removes it if view is nil.
func (j *Journal) putView(k string, view *View) error {
	err := j.db.Update(func(tx *bolt.Tx) error {
		if view == nil {
			return tx.Bucket(viewsBucket).Delete([]byte(k))
		}
		v, err := json.Marshal(view)
		if err != nil {
			return err
		}
		return tx.Bucket(viewsBucket).Put([]byte(k), v)
	})
	if err != nil {
		return journalError(err)
	}
	return nil
}

func key(parts ...string) []byte {
	var b []byte
	for i, p := range parts {
		if i > 0 {
			b = append(b, 0)
		}
		b = append(b, p...)
	}
	return b
}
