package seal

// Key is a private age identity. It prints as a redaction, whatever the verb.
type Key struct{ identity string }
