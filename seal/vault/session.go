package vault

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/vault/api"

	"sallyport"
)

// session is being signed in to Vault. A token is renewed while it lasts; when
// it ends, or Vault has lost it, the next question signs in again. Nothing here
// needs a restart to recover. Safe for concurrent use.
type session struct {
	cfg  Config
	http *http.Client
	turn chan struct{} // one signs in at a time

	mu     sync.Mutex
	now    *login // nil when signed out
	closed bool
}

// login is one token.
type login struct {
	client  *api.Client
	watcher *api.LifetimeWatcher // nil for a token that does not end
	ours    bool                 // we asked for it, so we give it back
}

func newSession(cfg Config) (*session, error) {
	h, err := cfg.httpClient()
	if err != nil {
		return nil, err
	}
	return &session{cfg: cfg, http: h, turn: make(chan struct{}, 1)}, nil
}

// client returns one that speaks with this token. Nothing of the environment's
// VAULT_ variables steers it.
func (s *session) client(token string) (*api.Client, error) {
	c, err := api.NewClient(&api.Config{
		Address: s.cfg.Address, HttpClient: s.http, Timeout: s.cfg.Timeout, DisableRedirects: true,
		MaxRetries: 1, MinRetryWait: 10 * time.Millisecond, MaxRetryWait: 50 * time.Millisecond, CheckRetry: onceMore,
	})
	if err != nil {
		return nil, sallyport.E("open vault", sallyport.Invalid, err, "")
	}
	c.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	if s.cfg.Namespace != "" {
		c.SetNamespace(s.cfg.Namespace)
	}
	c.SetToken(token)
	return c, nil
}

// onceMore repeats a request only when a kept connection turned out to be dead,
// as after a restart of Vault. Everything asked of Vault here may be asked
// twice. An answer is never asked for again: a sealed Vault stays sealed.
func onceMore(ctx context.Context, _ *http.Response, err error) (bool, error) {
	if err == nil || ctx.Err() != nil {
		return false, nil
	}
	dead := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		strings.Contains(err.Error(), "server closed idle connection")
	return dead, nil
}

// do asks Vault one question within the timeout, signing in if need be. What
// comes back is an answer with a 2xx code or a *sallyport.Error.
func (s *session) do(ctx context.Context, op string, ask func(context.Context, *api.Client) (*api.Secret, error)) (*api.Secret, error) {
	bound, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	for again := range 2 {
		in, err := s.signedIn(bound)
		if err != nil {
			return nil, s.failure(ctx, op, err)
		}
		answer, err := ask(bound, in.client)
		if err == nil {
			return answer, nil
		}
		// 403 is both "this token may not" and "no such token". Only a token
		// that cannot even look at itself is gone.
		if again == 0 && answered(err, http.StatusForbidden, "") {
			if _, lookErr := in.client.Auth().Token().LookupSelfWithContext(bound); answered(lookErr, http.StatusForbidden, "") {
				s.drop(in)
				continue
			}
		}
		return nil, s.failure(ctx, op, err)
	}
	return nil, sallyport.Errorf(op, sallyport.Unavailable, "Was the role's policy or token taken away just now? The gateway tries again by itself.", "vault refuses a fresh token")
}

// write is do for a plain write.
func (s *session) write(ctx context.Context, op, path string, data map[string]any) (*api.Secret, error) {
	return s.do(ctx, op, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().WriteWithContext(ctx, path, data)
	})
}

func (s *session) signedIn(ctx context.Context) (*login, error) {
	s.mu.Lock()
	in, closed := s.now, s.closed
	s.mu.Unlock()
	if closed {
		return nil, sallyport.Errorf("sign in to vault", sallyport.Unavailable, "", "the key issuer is closed")
	}
	if in != nil {
		return in, nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	in = s.now
	s.mu.Unlock()
	if in != nil { // somebody else did it meanwhile
		return in, nil
	}
	in, auth, err := s.signIn(ctx)
	if err != nil {
		return nil, err
	}
	if auth.LeaseDuration > 0 {
		in.watcher, err = in.client.NewLifetimeWatcher(&api.LifetimeWatcherInput{
			Secret: &api.Secret{Auth: auth}, RenewBehavior: api.RenewBehaviorIgnoreErrors,
		})
		if err != nil {
			return nil, sallyport.E("sign in to vault", sallyport.Internal, err, "")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, sallyport.Errorf("sign in to vault", sallyport.Unavailable, "", "the key issuer is closed")
	}
	s.now = in
	if w := in.watcher; w != nil {
		go w.Start()
		go func() {
			<-w.DoneCh() // stopped, or near an end that renewal cannot put off
			s.drop(in)
		}()
	}
	return in, nil
}

// signIn gets a token by the configured way.
func (s *session) signIn(ctx context.Context) (*login, *api.SecretAuth, error) {
	const op = "sign in to vault"
	if a := s.cfg.Auth.AppRole; a != nil {
		role, err := readSecret(a.RoleIDFile, false)
		if err != nil {
			return nil, nil, err
		}
		secret, err := readSecret(a.SecretIDFile, true)
		if err != nil {
			return nil, nil, err
		}
		c, err := s.client("")
		if err != nil {
			return nil, nil, err
		}
		got, err := c.Logical().WriteWithContext(ctx, "auth/"+a.Mount+"/login", map[string]any{"role_id": role, "secret_id": secret})
		if answered(err, http.StatusBadRequest, "") || answered(err, http.StatusForbidden, "") {
			return nil, nil, sallyport.Errorf(op, sallyport.Unavailable,
				fmt.Sprintf("Write a fresh secret ID into %s; the gateway tries again by itself.", a.SecretIDFile), "vault refuses the AppRole: %s", words(err))
		}
		if err != nil {
			return nil, nil, err
		}
		if got == nil || got.Auth == nil || got.Auth.ClientToken == "" {
			return nil, nil, sallyport.Errorf(op, sallyport.Unavailable, "Is auth.approle.mount an AppRole method?", "vault gave no token")
		}
		c.SetToken(got.Auth.ClientToken)
		return &login{client: c, ours: true}, got.Auth, nil
	}
	token, err := readSecret(s.cfg.Auth.TokenFile, true)
	if err != nil {
		return nil, nil, err
	}
	c, err := s.client(token)
	if err != nil {
		return nil, nil, err
	}
	self, err := c.Auth().Token().LookupSelfWithContext(ctx)
	if answered(err, http.StatusForbidden, "") {
		return nil, nil, sallyport.Errorf(op, sallyport.Unavailable,
			fmt.Sprintf("Write a fresh token into %s; the gateway tries again by itself.", s.cfg.Auth.TokenFile), "vault refuses the token: it has ended or was revoked")
	}
	if err != nil {
		return nil, nil, err
	}
	ttl, err := self.TokenTTL()
	if err != nil {
		return nil, nil, sallyport.Errorf(op, sallyport.Unavailable, "Is address that of a Vault?", "no lifetime in what vault says of the token")
	}
	renewable, err := self.TokenIsRenewable()
	if err != nil {
		renewable = false
	}
	return &login{client: c}, &api.SecretAuth{ClientToken: token, LeaseDuration: int(ttl / time.Second), Renewable: renewable}, nil
}

// drop forgets a token, unless another has taken its place.
func (s *session) drop(in *login) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == in {
		s.now = nil
	}
	if in.watcher != nil {
		in.watcher.Stop()
	}
}

// close gives our token back, if Vault is there to take it.
func (s *session) close() {
	s.mu.Lock()
	in := s.now
	s.closed, s.now = true, nil
	s.mu.Unlock()
	if in != nil {
		if in.watcher != nil {
			in.watcher.Stop()
		}
		if in.ours {
			ctx, cancel := context.WithTimeout(context.Background(), min(s.cfg.Timeout, 2*time.Second))
			defer cancel()
			// An error leaves a token that ends by itself.
			_ = in.client.Auth().Token().RevokeSelfWithContext(ctx, "")
		}
	}
	s.http.CloseIdleConnections()
}

// answered says whether err is Vault's answer with this code, with text among
// its words.
func answered(err error, code int, text string) bool {
	e, ok := errors.AsType[*api.ResponseError](err)
	return ok && e.StatusCode == code && strings.Contains(strings.Join(e.Errors, " "), text)
}

// words are what Vault said, in one short line.
func words(err error) string {
	e, ok := errors.AsType[*api.ResponseError](err)
	if !ok {
		return err.Error()
	}
	said := strings.Join(strings.Fields(strings.Join(e.Errors, "; ")), " ")
	if e.RawError || said == "" {
		said = http.StatusText(e.StatusCode) // a page of some proxy
	}
	if len(said) > 200 {
		said = said[:200] + "…"
	}
	return fmt.Sprintf("%s (%d)", said, e.StatusCode)
}

// failure makes an error of ours of whatever a question to Vault ended with.
// All but the caller's own giving up is fail-closed and may be tried again.
func (s *session) failure(ctx context.Context, op string, err error) error {
	if ours, ok := errors.AsType[*sallyport.Error](err); ok {
		return sallyport.E(op, ours.Kind, err, "")
	}
	if ctx.Err() != nil {
		return sallyport.E(op, sallyport.Canceled, ctx.Err(), "")
	}
	away := func(hint, format string, args ...any) error {
		return sallyport.Errorf(op, sallyport.Unavailable, hint+" The gateway goes on by itself.", format, args...)
	}
	if e, ok := errors.AsType[*api.ResponseError](err); ok {
		switch {
		case e.StatusCode == http.StatusServiceUnavailable && strings.Contains(strings.Join(e.Errors, " "), "sealed"):
			return away("Unseal Vault.", "vault is sealed")
		case e.StatusCode == http.StatusNotImplemented:
			return away("Initialize Vault.", "vault is not initialized")
		case e.StatusCode == http.StatusForbidden:
			return away("Give the gateway's role the policy gateway.hcl, with this mount and prefix.", "vault forbids it: %s", words(err))
		case e.StatusCode == http.StatusNotFound && strings.Contains(strings.Join(e.Errors, " "), "no handler for route"):
			return away("Enable the engine, or set mount and namespace.", "vault has no engine there: %s", words(err))
		case e.StatusCode == http.StatusTooManyRequests, e.StatusCode >= 472:
			return away("Look at Vault's health.", "vault is not ready: %s", words(err))
		}
		return sallyport.E(op, sallyport.Internal, refusal{e}, "")
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return away("Look at Vault's load and at the way there.", "vault gave no answer within %s", s.cfg.Timeout)
	case errors.Is(err, errRedirect):
		return away("Set address to the active node or to its load balancer.", "%s: %w", s.cfg.Address, errRedirect)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return away("Set ca_file to the authority that signs Vault's certificate.", "%s: unknown certificate authority", s.cfg.Address)
	}
	return away("Start Vault, or look at the way there.", "vault cannot be reached at %s: %w", s.cfg.Address, err)
}

// refusal is an answer that callers may know a better name for. The client's
// own text runs over several lines.
type refusal struct{ answer *api.ResponseError }

func (r refusal) Error() string { return "vault refuses it: " + words(r.answer) }
func (r refusal) Unwrap() error { return r.answer }
