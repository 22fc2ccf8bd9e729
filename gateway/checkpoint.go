package gateway

import "sallyport/audit"

// CheckpointHeader is the header in which every answer of a door carries the
// latest checkpoint of the audit log (https://c2sp.org/tlog-checkpoint): the
// whole signed note, in standard base64. Who keeps the largest that they saw
// can tell later whether the log still continues it.
const CheckpointHeader = "Sallyport-Checkpoint"

// CheckpointLine returns the header's value now.
func (g *Gateway) CheckpointLine() string {
	signed, err := g.parts.Audit.Checkpoint()
	if err != nil {
		return "" // a log that is broken stops more than this
	}
	return audit.CheckpointLine(signed)
}

// ProveConsistency proves that the audit log of size records continues that of
// old, in hashes in base64 (RFC 6962, section 2.1.2).
func (g *Gateway) ProveConsistency(old, size uint64) ([]string, error) {
	path, err := g.parts.Audit.Consistency(old, size)
	return audit.FormatHashes(path), err
}
