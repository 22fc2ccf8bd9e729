# The operator on call. Sees which keys there are and ends a release's key when
# the gateway cannot. Opens nothing, makes nothing, and does not touch the
# derive and signing keys.

path "transit/keys" {
  capabilities = ["list"]
}

path "transit/keys/" {
  capabilities = ["list"]
}

path "transit/keys/sallyport-release-*" {
  capabilities = ["read", "delete"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["create", "update"]
}

path "auth/token/revoke-self" {
  capabilities = ["create", "update"]
}
