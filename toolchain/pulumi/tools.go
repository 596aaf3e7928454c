//go:build tools

// Package tools pins the command that is built here, with all it needs, in go.mod and go.sum.
package tools

import _ "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
