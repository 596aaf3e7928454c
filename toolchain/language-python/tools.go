//go:build tools

// Package tools pins the language host that is built here, with all it needs, in go.mod and go.sum.
package tools

import _ "github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python"
