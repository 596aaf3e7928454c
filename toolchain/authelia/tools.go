//go:build tools

// Package tools pins the server that is built here, with all it needs, in go.mod and go.sum.
package tools

import _ "github.com/authelia/authelia/v4/cmd/authelia"
