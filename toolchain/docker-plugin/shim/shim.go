// Package shim hands out Terraform's Docker provider, which its own module keeps
// internal: this module's path lies under that one's, so Go lets it in.
package shim

import (
	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
	"github.com/terraform-providers/terraform-provider-docker/internal/provider"
)

// NewProvider returns the provider, which tells Docker registries that it is version.
func NewProvider(version string) *schema.Provider {
	return provider.New(version)()
}
