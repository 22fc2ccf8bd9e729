#!/usr/bin/env python3
"""Checks an evidence pack, offline, without the program that made it.

    python3 verify.py [--key VERIFIER-KEY] [PACK.zip or its folder]

Exit code 0: all holds; 1: something does not; 2: cannot tell.
Python 3.8 or later; signatures are checked by openssl 3.
"""
import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import tempfile
import zipfile


class Bad(Exception):
    """What the pack claims does not hold."""


class CannotTell(Exception):
    """Something kept this from looking."""


class Folder:
    def __init__(self, path):
        self.path = path

    def names(self):
        out = []
        for root, _, files in os.walk(self.path):
            for f in files:
                out.append(os.path.relpath(os.path.join(root, f), self.path).replace(os.sep, "/"))
        return out

    def open(self, name):
        try:
            return open(os.path.join(self.path, *name.split("/")), "rb")
        except FileNotFoundError:
            raise Bad("%s is missing" % name)


class Zip:
    def __init__(self, path):
        try:
            self.zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as e:
            raise Bad("no zip archive: %s" % e)

    def names(self):
        return self.zip.namelist()

    def open(self, name):
        try:
            return self.zip.open(name)
        except KeyError:
            raise Bad("%s is missing" % name)


def read(pack, name):
    try:
        with pack.open(name) as f:
            return f.read()
    except zipfile.BadZipFile as e:
        raise Bad("%s: %s" % (name, e))


def sha256(*parts):
    h = hashlib.sha256()
    for p in parts:
        h.update(p)
    return h.digest()


def unbase64(s, what):
    try:
        b = base64.b64decode(s, validate=True)
    except ValueError:
        raise Bad("%s is not base64" % what)
    if base64.b64encode(b) != (s if isinstance(s, bytes) else s.encode()):
        raise Bad("%s is not in canonical base64" % what)
    return b


# Signed notes: https://c2sp.org/signed-note

def parse_key(vkey):
    """name, key hash, Ed25519 public key"""
    try:
        name, h, rest = vkey.strip().split("+", 2)
        key = base64.b64decode(rest, validate=True)
    except ValueError:
        raise CannotTell("the verifier key is not NAME+HASH+KEY")
    if len(key) != 33 or key[0] != 1:
        raise CannotTell("the verifier key is no Ed25519 key")
    if sha256(name.encode() + b"\n" + key)[:4].hex() != h:
        raise CannotTell("the verifier key's hash is wrong")
    return name, bytes.fromhex(h), key[1:]


def ed25519(public, message, signature):
    """Asks openssl, which has what the standard library has not."""
    der = bytes.fromhex("302a300506032b6570032100") + public
    pem = b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(der) + b"\n-----END PUBLIC KEY-----\n"
    with tempfile.TemporaryDirectory() as d:
        paths = {}
        for name, content in (("key", pem), ("message", message), ("signature", signature)):
            paths[name] = os.path.join(d, name)
            with open(paths[name], "wb") as f:
                f.write(content)
        try:
            r = subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", paths["key"], "-rawin",
                                "-in", paths["message"], "-sigfile", paths["signature"]],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except FileNotFoundError:
            raise CannotTell("openssl is not installed")
        said = r.stdout + r.stderr
        if r.returncode == 0 and b"Verified Successfully" in said:
            return True
        if b"Verification Failure" in said:
            return False
        raise CannotTell("openssl: " + said.decode(errors="replace").strip())


def open_checkpoint(signed, key, what):
    """size, root"""
    name, key_hash, public = key
    text, sep, signatures = signed.partition(b"\n\n")
    text += b"\n"
    if not sep or not signatures.endswith(b"\n"):
        raise Bad("%s is no signed note" % what)
    good = False
    for line in signatures[:-1].split(b"\n"):
        parts = line.split(b" ")
        if len(parts) != 3 or parts[0] != "\u2014".encode():
            raise Bad("%s has a line that is no signature" % what)
        if parts[1] != name.encode():
            continue
        sig = unbase64(parts[2], "a signature of " + what)
        if sig[:4] != key_hash:
            continue
        if len(sig) != 68 or not ed25519(public, text, sig[4:]):
            raise Bad("%s is not signed by key %s+%s: the signature is wrong" % (what, name, key_hash.hex()))
        good = True
    if not good:
        raise Bad("%s is not signed by key %s+%s" % (what, name, key_hash.hex()))
    lines = text.split(b"\n")
    if len(lines) != 4 or lines[0] != name.encode() or not lines[1].isdigit():
        raise Bad("%s is no checkpoint of %s" % (what, name))
    root = unbase64(lines[2], "the root in " + what)
    if len(root) != 32:
        raise Bad("the root in %s is no SHA-256" % what)
    return int(lines[1]), root


# Merkle trees: RFC 6962 as RFC 9162, 2.1.3.2 and 2.1.4.2, say to verify.

def root_of(path, leaf_hash, index, size):
    fn, sn, r = index, size - 1, leaf_hash
    for p in path:
        if sn == 0:
            raise Bad("a proof is too long")
        if fn & 1 or fn == sn:
            r = sha256(b"\x01", p, r)
            if not fn & 1:
                while fn and not fn & 1:
                    fn >>= 1
                    sn >>= 1
        else:
            r = sha256(b"\x01", r, p)
        fn >>= 1
        sn >>= 1
    if sn != 0:
        raise Bad("a proof is too short")
    return r


def check_consistency(path, old, old_root, new, new_root):
    if old == 0:
        if path or old_root != sha256():
            raise Bad("the cosigned checkpoint is not the beginning of the log")
        return
    if not old < new:
        raise Bad("the cosigned checkpoint is not older")
    path = list(path)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise Bad("the consistency proof is empty")
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            raise Bad("the consistency proof is too long")
        if fn & 1 or fn == sn:
            fr, sr = sha256(b"\x01", c, fr), sha256(b"\x01", c, sr)
            while fn and not fn & 1:
                fn >>= 1
                sn >>= 1
        else:
            sr = sha256(b"\x01", sr, c)
        fn >>= 1
        sn >>= 1
    if sn != 0 or fr != old_root or sr != new_root:
        raise Bad("the log does not continue the cosigned checkpoint")


# Records

LEAF = [b"sallyport-audit-leaf/2", b"seq ", b"time ", b"step ", b"phase ", b"prev ", b"body ", b"sealed "]


def parse_leaf(leaf, seq):
    lines = leaf.split(b"\n")
    if len(lines) != 9 or lines[0] != LEAF[0] or lines[8] != b"":
        raise Bad("record %d: the leaf is not one" % seq)
    out = {}
    for want, line in zip(LEAF[1:], lines[1:8]):
        if not line.startswith(want):
            raise Bad("record %d: the leaf is not one" % seq)
        out[want.strip().decode()] = line[len(want):].decode()
    if out["seq"] != str(seq):
        raise Bad("record %d: the leaf has another number" % seq)
    return out


def check_entry(line, record, leaf, seq):
    """The commitment is over the bytes of the entry as they stand in the line."""
    mark = b',"entry":'
    raw = line[line.index(mark) + len(mark):-1]
    salt = unbase64(record.get("salt", ""), "a salt")
    if len(salt) != 32 or hmac.new(salt, raw, hashlib.sha256).hexdigest() != leaf["body"]:
        raise Bad("record %d: the content is not what the leaf commits to" % seq)
    entry = record["entry"]
    if entry.get("step") != leaf["step"] or entry.get("phase") != leaf["phase"] or entry.get("time") != leaf["time"]:
        raise Bad("record %d: time, step or phase are not those of the leaf" % seq)


def check_proof(pack, seq, leaf, checkpoint, size, root):
    name = "proofs/%d.tlog-proof" % seq
    head, sep, signed = read(pack, name).partition(b"\n\n")
    lines = head.split(b"\n")
    if not sep or len(lines) < 3 or lines[0] != b"c2sp.org/tlog-proof@v1":
        raise Bad("%s is no proof" % name)
    if signed != checkpoint:
        raise Bad("%s is under another checkpoint" % name)
    if lines[1] != b"extra " + base64.b64encode(leaf) or lines[2] != b"index %d" % seq:
        raise Bad("%s is of another record" % name)
    if seq >= size:
        raise Bad("record %d is not among the %d of the checkpoint" % (seq, size))
    path = [unbase64(h, "a hash in " + name) for h in lines[3:]]
    if any(len(h) != 32 for h in path) or root_of(path, sha256(b"\x00", leaf), seq, size) != root:
        raise Bad("record %d: the proof does not lead to the root of the checkpoint" % seq)


def lines_of(f):
    try:
        for line in f:
            yield line
    except (zipfile.BadZipFile, EOFError) as e:
        raise Bad("records.jsonl: %s" % e)


def check_records(pack, checkpoint, size, root):
    counts = {"records": 0, "erased": 0, "sealed": 0}
    policies, data, seen = set(), set(), set()
    with pack.open("records.jsonl") as f:
        for line in lines_of(f):
            try:
                if not line.endswith(b"}\n"):
                    raise ValueError
                line = line[:-1]
                record = json.loads(line)
                seq, leaf = record["seq"], record["leaf"].encode()
            except (ValueError, KeyError, TypeError, AttributeError):
                raise Bad("line %d of records.jsonl is no record" % (counts["records"] + 1))
            if type(seq) is not int or seq in seen:
                raise Bad("record %s is there twice" % seq)
            seen.add(seq)
            fields = parse_leaf(leaf, seq)
            check_proof(pack, seq, leaf, checkpoint, size, root)
            counts["records"] += 1
            if "erased" in record or record.get("sealed"):
                if "entry" in record:
                    raise Bad("record %d has a content and none" % seq)
                counts["erased" if "erased" in record else "sealed"] += 1
                continue
            if "entry" not in record:
                raise Bad("record %d has no content, and is neither erased nor sealed" % seq)
            check_entry(line, record, fields, seq)
            if record["entry"].get("policy"):
                policies.add(record["entry"]["policy"])
            if record["entry"].get("data"):
                data.add(record["entry"]["data"])
    return counts, policies, data, seen


def check_policies(pack, names, policies, missing):
    found = {}
    for n in names:
        if n.startswith("policies/"):
            digest, _, rest = n[len("policies/"):].partition("/")
            found.setdefault("sha256:" + digest, []).append(rest)
    for digest in policies:
        if digest not in found and digest not in missing:
            raise Bad("policy %s is missing" % digest)
    for digest, files in found.items():
        if digest not in policies:
            raise Bad("no record names policy %s" % digest)
        h = hashlib.sha256()
        for name in sorted((n for n in files if n.endswith(".rego")), key=lambda n: n.encode()):
            for part in (name.encode(), read(pack, "policies/%s/%s" % (digest[7:], name))):
                h.update(len(part).to_bytes(8, "big"))
                h.update(part)
        if "sha256:" + h.hexdigest() != digest:
            raise Bad("policy %s has other rules" % digest)


def check_sums(pack, names):
    listed = set()
    for line in read(pack, "SHA256SUMS").decode().splitlines():
        digest, _, name = line.partition("  ")
        listed.add(name)
        h = hashlib.sha256()
        with pack.open(name) as f:
            for block in iter(lambda: f.read(1 << 20), b""):
                h.update(block)
        if h.hexdigest() != digest:
            raise Bad("%s was changed" % name)
    for n in names:
        if n not in listed and n != "SHA256SUMS" and not n.startswith("proofs/"):
            raise Bad("%s was added" % n)


def check(path, vkey):
    pack = Folder(path) if os.path.isdir(path) else Zip(path)
    names = pack.names()
    if len(names) != len(set(names)):
        raise Bad("a file is there twice")
    try:
        check_sums(pack, names)
    except (zipfile.BadZipFile, EOFError, ValueError) as e:
        raise Bad("the archive is damaged: %s" % e)
    given = vkey is not None
    key = parse_key(vkey if given else read(pack, "key").decode())
    checkpoint = read(pack, "checkpoint")
    size, root = open_checkpoint(checkpoint, key, "the checkpoint")
    counts, policies, data, seen = check_records(pack, checkpoint, size, root)
    for n in names:
        if n.startswith("proofs/") and not (n.endswith(".tlog-proof") and n[7:-11].isdigit() and int(n[7:-11]) in seen):
            raise Bad("%s is a proof of no record here" % n)
    about = json.loads(read(pack, "export.json"))
    for what, n in counts.items():
        if about["counts"][what] != n:
            raise Bad("export.json counts %d as %s, there are %d" % (about["counts"][what], what, n))
    if about["size"] != size or base64.b64decode(about["root"]) != root or about["origin"] != key[0]:
        raise Bad("export.json speaks of another checkpoint")
    if set(about["policies"]) != policies or set(about["data"]) != data:
        raise Bad("export.json names other policies or data than the records")
    check_policies(pack, names, policies, about["counts"].get("missing_policies", []))
    if "cosigned" in names:
        old, old_root = open_checkpoint(read(pack, "cosigned"), key, "the cosigned checkpoint")
        path = [unbase64(h, "a hash") for h in json.loads(read(pack, "consistency.json"))]
        check_consistency(path, old, old_root, size, root)
    print("whole: %d records (%d erased, %d sealed) of the log of %s, which had %d records and root %s" % (
        counts["records"], counts["erased"], counts["sealed"], key[0], size, base64.b64encode(root).decode()))
    print("asked for: %s, by %s, at %s" % (json.dumps(about["asked"]), about["by"], about["at"]))
    if not given:
        print("The key is the pack's own: compare it with one from somebody you trust.\n  " + read(pack, "key").decode().strip())


def main(args):
    vkey = None
    if args[:1] == ["--key"] and len(args) > 1:
        vkey, args = args[1], args[2:]
    if len(args) > 1 or args and args[0].startswith("-"):
        print(__doc__)
        return 2
    path = args[0] if args else os.path.dirname(os.path.abspath(__file__))
    try:
        check(path, vkey)
    except Bad as e:
        print("DAMAGED: %s" % e)
        return 1
    except (CannotTell, OSError) as e:
        print("cannot tell: %s" % e)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
