package identity

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"sallyport"
)

// OIDCConfig says whose bearer tokens are believed and who they speak for.
type OIDCConfig struct {
	// Issuer is the provider's https address, exactly as it stands in the iss
	// claim of its tokens.
	Issuer string `yaml:"issuer" json:"issuer"`
	// Audience is what the aud claim must contain: this gateway's name at the
	// provider.
	Audience string `yaml:"audience" json:"audience"`
	// CA is a file of PEM certificates to trust for the provider instead of the
	// system's.
	CA string `yaml:"ca" json:"ca"`

	// PersonClaim is the claim, a text, that says who it is; default sub. Only
	// sub is promised never to be given to somebody else (OpenID Connect Core
	// 1.0, 5.7). With email the token must also say email_verified.
	PersonClaim string `yaml:"person_claim" json:"person_claim"`
	// People names the person for a value of the claim.
	People map[string]string `yaml:"people" json:"people"`
	// Accept are patterns for the other values, with one star that stands for
	// the person's ID: "*@example.org", or "*" where the claim is the ID.
	Accept []string `yaml:"accept" json:"accept"`
	// Require are further claims that must be there: with this value, or a list
	// that contains it.
	Require map[string]string `yaml:"require" json:"require"`

	// Algorithms are the signatures that are accepted. Default RS256, PS256,
	// ES256, ES384 and EdDSA; only asymmetric ones are possible.
	Algorithms []string `yaml:"algorithms" json:"algorithms"`
	// Skew is how far the clocks of provider and gateway may differ: 1 minute
	// by default, 5 minutes at most.
	Skew time.Duration `yaml:"skew" json:"skew"`
	// KeysTTL is how long the provider's keys are believed without asking
	// again, and so how long a key that it withdrew still works here; default
	// 15 minutes.
	KeysTTL time.Duration `yaml:"keys_ttl" json:"keys_ttl"`
}

const (
	maxToken   = 16 << 10 // bytes
	maxSubject = 255      // OpenID Connect Core 1.0, section 2, sub
)

// Token is what a verified token says.
type Token struct {
	Issuer  string
	Subject string // the sub claim
	Person  string // by the configuration's rules; may still be nobody
	Until   time.Time
}

// Verifier verifies the bearer tokens (JSON Web Tokens: OpenID Connect ID
// tokens, or RFC 9068 access tokens) of one provider. Signature, issuer and
// audience are checked by go-oidc; times, kind of token and person here.
//
// The provider is first asked when the first token comes, so that a gateway
// starts while it is down. Tokens are refused while its keys cannot be had.
//
// Safe for concurrent use.
type Verifier struct {
	cfg       OIDCConfig
	now       func() time.Time
	providers providers
}

// NewVerifier checks cfg and returns a verifier. It reads the CA file and
// touches no network.
func NewVerifier(cfg OIDCConfig, now func() time.Time) (*Verifier, error) {
	const op = "openid provider"
	invalid := func(hint, format string, args ...any) (*Verifier, error) {
		return nil, sallyport.Errorf(op, sallyport.Invalid, hint, format, args...)
	}
	u, err := url.Parse(cfg.Issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return invalid("Write it as its tokens do, e.g. https://login.example.org/realm.", "issuer %q is not an https address", cfg.Issuer)
	}
	cfg.PersonClaim = cmp.Or(cfg.PersonClaim, "sub")
	cfg.Skew = cmp.Or(cfg.Skew, time.Minute)
	cfg.KeysTTL = cmp.Or(cfg.KeysTTL, 15*time.Minute)
	if len(cfg.Algorithms) == 0 {
		cfg.Algorithms = []string{oidc.RS256, oidc.PS256, oidc.ES256, oidc.ES384, oidc.EdDSA}
	}
	asymmetric := []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}
	for _, a := range cfg.Algorithms {
		if !slices.Contains(asymmetric, a) {
			return invalid("Choose of "+strings.Join(asymmetric, " ")+".", "algorithm %q is not possible", a)
		}
	}
	for _, p := range cfg.Accept {
		if strings.Count(p, "*") != 1 {
			return invalid("Write one star for the person's ID, e.g. *@example.org.", "pattern %q has no or several stars", p)
		}
	}
	switch {
	case cfg.Audience == "":
		return invalid("Name the gateway as the provider knows it (client ID or resource).", "no audience: tokens for anybody would do")
	case len(cfg.People) == 0 && len(cfg.Accept) == 0:
		return invalid("Set people or accept.", "nobody could come in")
	case cfg.Skew < 0 || cfg.Skew > 5*time.Minute:
		return invalid("Set the clocks instead.", "skew %s is not between 0 and 5m", cfg.Skew)
	case cfg.KeysTTL < time.Minute || cfg.KeysTTL > 24*time.Hour:
		return invalid("", "keys_ttl %s is not between 1m and 24h", cfg.KeysTTL)
	}
	base, err := transport(cfg.CA)
	if err != nil {
		return nil, err
	}
	v := &Verifier{cfg: cfg, now: now}
	v.providers = providers{
		issuer: cfg.Issuer, ttl: cfg.KeysTTL, now: now, base: base,
		// Times are checked in Verify, with one skew for all three of them.
		checks: &oidc.Config{ClientID: cfg.Audience, SupportedSigningAlgs: cfg.Algorithms, SkipExpiryCheck: true, Now: now},
	}
	return v, nil
}

// Verify verifies a token in the compact form. A token that is no good is a
// sallyport.Denied that says why; a provider that cannot be asked is a
// sallyport.Unavailable. No error repeats the token.
func (v *Verifier) Verify(ctx context.Context, raw string) (Token, error) {
	alg, err := checkShape(raw)
	if err != nil {
		return Token{}, err
	}
	if !slices.Contains(v.cfg.Algorithms, alg) {
		return Token{}, badToken("it is signed with %q, which is not accepted", clip(alg))
	}
	t, err := v.providers.verify(ctx, raw)
	if err != nil {
		return Token{}, err
	}
	var claims map[string]any
	if err := t.Claims(&claims); err != nil {
		return Token{}, badToken("its claims are unreadable")
	}
	if err := v.checkTimes(t, claims); err != nil {
		return Token{}, err
	}
	if t.Subject == "" || len(t.Subject) > maxSubject || !printable(t.Subject) {
		return Token{}, badToken("its subject is empty, longer than %d bytes or unprintable", maxSubject)
	}
	if _, is := claims["events"]; is {
		return Token{}, badToken("it announces an event (a logout, for instance) and is no proof of identity")
	}
	if _, is := claims["cnf"]; is {
		return Token{}, badToken("it is bound to a key of its holder (cnf), which this gateway cannot check")
	}
	for _, name := range slices.Sorted(maps.Keys(v.cfg.Require)) {
		if !holds(claims[name], v.cfg.Require[name]) {
			return Token{}, badToken("its claim %q is not the one required here", name)
		}
	}
	person, err := v.person(claims)
	if err != nil {
		return Token{}, err
	}
	return Token{Issuer: t.Issuer, Subject: t.Subject, Person: person, Until: t.Expiry}, nil
}

// badToken says why a token is refused. Whoever holds it may know: they can
// read it themselves.
func badToken(format string, args ...any) error {
	return sallyport.Errorf("bearer token", sallyport.Denied, "Get a new token from the provider.", "the token is refused: "+format, args...)
}

// header is the part of a JOSE header (RFC 7515, section 4.1) that is judged
// before anything else.
type header struct {
	Alg  string   `json:"alg"`
	Type string   `json:"typ"`
	Crit []string `json:"crit"`
}

// checkShape returns the algorithm of a token in compact form, three base64url
// parts with dots between them. The general JSON forms of RFC 7515 have
// unprotected headers and are no bearer tokens.
func checkShape(raw string) (alg string, err error) {
	if len(raw) > maxToken {
		return "", badToken("it is longer than %d bytes", maxToken)
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return "", badToken("it is not a JSON Web Token: such have three parts with dots between them")
	}
	for i, p := range parts {
		b, err := base64.RawURLEncoding.Strict().DecodeString(p)
		if err != nil || strings.ContainsAny(p, "\r\n") {
			return "", badToken("it is not a JSON Web Token: part %d is not base64url", i+1)
		}
		if i > 0 {
			continue
		}
		var h header
		if err := json.Unmarshal(b, &h); err != nil {
			return "", badToken("it is not a JSON Web Token: its header is no JSON object")
		}
		// A typ keeps tokens of one purpose from passing for another (RFC 8725,
		// section 3.11): logout+jwt, secevent+jwt, dpop+jwt are no identity.
		typ := strings.TrimPrefix(strings.ToLower(h.Type), "application/")
		if typ != "" && typ != "jwt" && typ != "at+jwt" {
			return "", badToken("it is a %q, not an ID or access token", clip(h.Type))
		}
		if len(h.Crit) > 0 {
			return "", badToken("it demands extensions that this gateway does not know")
		}
		alg = h.Alg
	}
	if strings.EqualFold(alg, "none") || alg == "" || parts[2] == "" {
		return "", badToken("it is not signed")
	}
	return alg, nil
}

func (v *Verifier) checkTimes(t *oidc.IDToken, claims map[string]any) error {
	now, skew := v.now(), v.cfg.Skew
	// The library reads an absent or null time as zero.
	if t.Expiry.Unix() <= 0 || claims["exp"] == nil {
		return badToken("it never ends (no exp)")
	}
	if !now.Before(t.Expiry.Add(skew)) {
		return badToken("it expired at %s, and it is %s", stamp(t.Expiry), stamp(now))
	}
	for _, name := range []string{"nbf", "iat"} {
		c, is := claims[name]
		if !is {
			continue
		}
		seconds, ok := c.(float64)
		if !ok || seconds < 0 || seconds > 1<<40 {
			return badToken("its %s is not a time", name)
		}
		if at := time.Unix(int64(seconds), 0); now.Add(skew).Before(at) {
			return badToken("it is good from %s (%s), and it is %s here; check the clocks", stamp(at), name, stamp(now))
		}
	}
	return nil
}

// person names the person by the claim and the rules.
func (v *Verifier) person(claims map[string]any) (string, error) {
	claim := v.cfg.PersonClaim
	value, ok := claims[claim].(string)
	if !ok || value == "" {
		return "", badToken("it has no text in its claim %q, which says who it is", claim)
	}
	if verified, _ := claims["email_verified"].(bool); claim == "email" && !verified {
		return "", badToken("its email is not verified by the provider")
	}
	if p, ok := v.cfg.People[value]; ok {
		return p, nil
	}
	found := ""
	for _, pattern := range v.cfg.Accept {
		before, after, _ := strings.Cut(pattern, "*")
		if len(value) <= len(before)+len(after) || !strings.HasPrefix(value, before) || !strings.HasSuffix(value, after) {
			continue
		}
		p := value[len(before) : len(value)-len(after)]
		if found != "" && found != p {
			return "", badToken("its %s means two people, by two patterns", claim)
		}
		found = p
	}
	if found == "" {
		return "", refuse("bearer token", "Ask the gateway's administrator to add you.",
			"the token is good, but its subject is nobody here", "%s %q is neither in people nor accepted by a pattern", claim, clip(value))
	}
	return found, nil
}

// holds reports whether a claim is want, or a list that has it.
func holds(claim any, want string) bool {
	switch c := claim.(type) {
	case string:
		return c == want
	case bool:
		return fmt.Sprint(c) == want
	case []any:
		return slices.ContainsFunc(c, func(e any) bool { s, ok := e.(string); return ok && s == want })
	}
	return false
}

// Bearer returns the token of a request's Authorization header (RFC 6750,
// section 2.1): "" if there is none or it is of another scheme, a
// sallyport.Invalid if there are several headers or no token in it.
func Bearer(h http.Header) (string, error) {
	values := h.Values("Authorization")
	if len(values) > 1 {
		return "", sallyport.Errorf("bearer token", sallyport.Invalid, "Send one.", "the request has %d Authorization headers", len(values))
	}
	if len(values) == 0 {
		return "", nil
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", nil
	}
	token = strings.Trim(token, " ")
	if token == "" || strings.ContainsAny(token, " \t,") {
		return "", sallyport.Errorf("bearer token", sallyport.Invalid, "Send `Authorization: Bearer TOKEN`.", "the header holds no token, or more than one")
	}
	return token, nil
}
