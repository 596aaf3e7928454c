//go:build tools

// Package tools pins the linter that is built here, with all it needs, in go.mod and go.sum.
package tools

import _ "github.com/rhysd/actionlint/cmd/actionlint"
