// Package memory keeps sessions in this process. It takes the place of the package of the same name in
// github.com/fasthttp/session v2.4.13, whose sessions get lost and mixed up: it keeps ids as views of a request's
// buffer, which the next request on that connection overwrites, in a slice that nothing locks.
package memory

import (
	"sync"
	"time"
)

// Config has no settings.
type Config struct{}

type session struct {
	data    []byte
	expires time.Time // zero: never
}

// Provider implements https://pkg.go.dev/github.com/fasthttp/session/v2#Provider.
type Provider struct {
	lock     sync.Mutex
	sessions map[string]session
}

// New returns a provider without sessions.
func New(Config) (*Provider, error) {
	return &Provider{sessions: map[string]session{}}, nil
}

func end(expiration time.Duration) time.Time {
	if expiration == 0 {
		return time.Time{}
	}
	return time.Now().Add(expiration)
}

func (s session) over() bool {
	return !s.expires.IsZero() && time.Now().After(s.expires)
}

// Get returns the data of a session, nil where there is none.
func (p *Provider) Get(id []byte) ([]byte, error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	if found, ok := p.sessions[string(id)]; ok && !found.over() {
		return found.data, nil
	}
	return nil, nil
}

// Save puts the data of a session down; the id is copied, as it is the caller's.
func (p *Provider) Save(id, data []byte, expiration time.Duration) error {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.sessions[string(id)] = session{data, end(expiration)}
	return nil
}

// Regenerate gives a session another id.
func (p *Provider) Regenerate(id, newID []byte, expiration time.Duration) error {
	p.lock.Lock()
	defer p.lock.Unlock()
	if found, ok := p.sessions[string(id)]; ok {
		delete(p.sessions, string(id))
		p.sessions[string(newID)] = session{found.data, end(expiration)}
	}
	return nil
}

// Destroy ends a session.
func (p *Provider) Destroy(id []byte) error {
	p.lock.Lock()
	defer p.lock.Unlock()
	delete(p.sessions, string(id))
	return nil
}

// Count returns how many sessions there are.
func (p *Provider) Count() int {
	p.lock.Lock()
	defer p.lock.Unlock()
	return len(p.sessions)
}

// NeedGC says that GC is to be called now and then.
func (p *Provider) NeedGC() bool {
	return true
}

// GC removes the sessions that are over.
func (p *Provider) GC() error {
	p.lock.Lock()
	defer p.lock.Unlock()
	for id, each := range p.sessions {
		if each.over() {
			delete(p.sessions, id)
		}
	}
	return nil
}
