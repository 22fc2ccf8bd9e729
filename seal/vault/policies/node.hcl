# A node that can reach Vault. All it can do is trade a hand-over token that it
# was given for what is in it. Whoever has such a token may do that without any
# other; this policy is for a site that gives every machine a token of its own,
# and gives it nothing more.

path "sys/wrapping/unwrap" {
  capabilities = ["create", "update"]
}

path "sys/wrapping/lookup" {
  capabilities = ["create", "update"]
}
