package shim

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http"
	"strings"

	"github.com/docker/docker/client"
)

// withModes returns a client of the same engine that sets the modes of the
// files it uploads, by path. The provider writes the archive of an upload deep
// inside its create and starts the container right after, so the one place left
// to set a mode is on the way to the engine.
func withModes(docker *client.Client, modes map[string]int64) (*client.Client, error) {
	connection := docker.HTTPClient()
	scheme := "http"
	if transport, ok := connection.Transport.(*http.Transport); ok && transport.TLSClientConfig != nil {
		scheme = "https"
	}
	connection.Transport = modeSetter{connection.Transport, modes}
	return client.NewClientWithOpts(
		client.WithHost(docker.DaemonHost()),
		client.WithHTTPClient(connection),
		client.WithScheme(scheme),
		client.WithVersion(docker.ClientVersion()),
	)
}

type modeSetter struct {
	next  http.RoundTripper
	modes map[string]int64
}

// RoundTrip passes requests on, uploads with their modes set.
func (setter modeSetter) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method != http.MethodPut || !strings.HasSuffix(request.URL.Path, "/archive") {
		return setter.next.RoundTrip(request)
	}
	archive, err := setter.rewrite(request.Body)
	if err != nil {
		return nil, err
	}
	request = request.Clone(request.Context())
	request.Body = io.NopCloser(archive)
	request.ContentLength = int64(archive.Len())
	return setter.next.RoundTrip(request)
}

func (setter modeSetter) rewrite(body io.ReadCloser) (*bytes.Buffer, error) {
	defer body.Close()
	archive := new(bytes.Buffer)
	from, to := tar.NewReader(body), tar.NewWriter(archive)
	for {
		header, err := from.Next()
		if err == io.EOF {
			return archive, to.Close()
		}
		if err != nil {
			return nil, err
		}
		if mode, ok := setter.modes[header.Name]; ok {
			header.Mode = mode
		}
		if err := to.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := io.Copy(to, from); err != nil {
			return nil, err
		}
	}
}
