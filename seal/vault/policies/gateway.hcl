# The gateway. It mints, opens and deletes the keys of releases, derives
# secrets, signs, and hands keys over. It cannot read or export a key, cannot
# make a derive or signing key, and cannot change or delete them.

# A release's key: make it, allow its deletion, delete it. The parameters
# listed are the only ones: no exportable key, no plaintext backup, no import,
# no change of versions.
path "transit/keys/sallyport-release-*" {
  capabilities = ["create", "update", "delete"]
  allowed_parameters = {
    "type"             = ["aes256-gcm96"]
    "deletion_allowed" = []
  }
}

path "transit/datakey/plaintext/sallyport-release-*" {
  capabilities = ["create", "update"]
  allowed_parameters = {
    "bits" = []
  }
}

path "transit/decrypt/sallyport-release-*" {
  capabilities = ["create", "update"]
  allowed_parameters = {
    "ciphertext" = []
  }
}

# Secrets by purpose.
path "transit/hmac/sallyport-derive/sha2-256" {
  capabilities = ["create", "update"]
}

# Checkpoints and receipts: sign, and read the public half.
path "transit/sign/sallyport-sign-*" {
  capabilities = ["create", "update"]
}

path "transit/keys/sallyport-sign-*" {
  capabilities = ["read"]
}

# Recall a hand-over that nobody has opened.
path "auth/token/revoke-accessor" {
  capabilities = ["create", "update"]
  allowed_parameters = {
    "accessor" = []
  }
}

# Its own token.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["create", "update"]
}

path "auth/token/revoke-self" {
  capabilities = ["create", "update"]
}
