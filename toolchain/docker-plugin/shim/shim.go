// Package shim hands out Terraform's Docker provider, which its own module keeps
// internal: this module's path lies under that one's, so Go lets it in.
package shim

import (
	"context"
	"strconv"

	"github.com/hashicorp/terraform-plugin-sdk/v2/diag"
	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
	"github.com/terraform-providers/terraform-provider-docker/internal/provider"
)

// NewProvider returns the provider, which tells Docker registries that it is
// version. Its containers know the permissions of an upload, as later ones do:
// a secret need not lie in a container for all to read.
func NewProvider(version string) *schema.Provider {
	docker := provider.New(version)()
	addPermissions(docker.ResourcesMap["docker_container"])
	return docker
}

func addPermissions(container *schema.Resource) {
	upload := container.Schema["upload"].Elem.(*schema.Resource)
	upload.Schema["permissions"] = &schema.Schema{
		Type:     schema.TypeString,
		Optional: true,
		ForceNew: true,
	}
	create := container.CreateContext
	container.CreateContext = func(ctx context.Context, data *schema.ResourceData, meta any) diag.Diagnostics {
		modes, err := permissions(data)
		if err != nil {
			return diag.FromErr(err)
		}
		if len(modes) == 0 {
			return create(ctx, data, meta)
		}
		config := *meta.(*provider.ProviderConfig)
		config.DockerClient, err = withModes(config.DockerClient, modes)
		if err != nil {
			return diag.FromErr(err)
		}
		return create(ctx, data, &config)
	}
}

// permissions maps the path of each upload that names its permissions to them.
func permissions(data *schema.ResourceData) (map[string]int64, error) {
	modes := map[string]int64{}
	for _, item := range data.Get("upload").(*schema.Set).List() {
		upload := item.(map[string]any)
		octal := upload["permissions"].(string)
		if octal == "" {
			continue
		}
		mode, err := strconv.ParseInt(octal, 8, 32)
		if err != nil {
			return nil, err
		}
		modes[upload["file"].(string)] = mode
	}
	return modes, nil
}
