// Command pulumi-resource-docker serves Terraform's Docker provider 2.23 to
// Pulumi, under the names that the Python SDK pulumi-docker 5.2 uses.
//
// It stands in for the official plugin where only Go modules can be had. The
// official one bridges the same provider in a newer version, so a program that
// keeps to what 2.23 knows runs on both.
package main

import (
	"unicode"

	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	shimv2 "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim/sdk-v2"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/terraform-providers/terraform-provider-docker/shim"
)

// version is the bridged provider's own: it must not pass for the official
// plugin's, whose numbers are another series.
const version = "2.23.0"

// member gives the official plugin's token, such as
// docker:index/container:Container for "Container".
func member(name string) tokens.ModuleMember {
	file := string(unicode.ToLower(rune(name[0]))) + name[1:]
	return tokens.ModuleMember("docker:index/" + file + ":" + name)
}

func resource(name string) *tfbridge.ResourceInfo {
	return &tfbridge.ResourceInfo{Tok: tokens.Type(member(name))}
}

func dataSource(name string) *tfbridge.DataSourceInfo {
	return &tfbridge.DataSourceInfo{Tok: member(name)}
}

func provider() tfbridge.ProviderInfo {
	container := resource("Container")
	container.DeleteBeforeReplace = true // its name is the engine's key
	container.Fields = map[string]*tfbridge.SchemaInfo{
		// Lists whose Pulumi names are not plural.
		"command":           {Name: "command"},
		"networks_advanced": {Name: "networksAdvanced"},
	}

	image := resource("RemoteImage")
	image.Fields = map[string]*tfbridge.SchemaInfo{
		"name": {Name: "name"}, // as given: no automatic name
		"build": {Elem: &tfbridge.SchemaInfo{Fields: map[string]*tfbridge.SchemaInfo{
			// Renamed upstream between 2.23 and what SDK 5.2 was made from.
			"path":      {Name: "context"},
			"build_arg": {Name: "buildArgs"},
		}}},
	}

	upstream := shim.NewProvider(version)
	// Newer ones may build with buildx, unless they are told not to; this one never does.
	build := upstream.ResourcesMap["docker_image"].Schema["build"].Elem.(*schema.Resource)
	build.Schema["use_legacy_builder"] = &schema.Schema{Type: schema.TypeBool, Optional: true}

	info := tfbridge.ProviderInfo{
		P:       shimv2.NewProvider(upstream),
		Name:    "docker",
		Version: version,
		Config: map[string]*tfbridge.SchemaInfo{
			"host": {Default: &tfbridge.DefaultInfo{
				Value:   "unix:///var/run/docker.sock",
				EnvVars: []string{"DOCKER_HOST"},
			}},
			"registry_auth": {Name: "registryAuth", MaxItemsOne: tfbridge.False()},
		},
		Resources: map[string]*tfbridge.ResourceInfo{
			"docker_config":         resource("ServiceConfig"),
			"docker_container":      container,
			"docker_image":          image,
			"docker_network":        resource("Network"),
			"docker_plugin":         resource("Plugin"),
			"docker_registry_image": resource("RegistryImage"),
			"docker_secret":         resource("Secret"),
			"docker_service":        resource("Service"),
			"docker_tag":            resource("Tag"),
			"docker_volume":         resource("Volume"),
		},
		DataSources: map[string]*tfbridge.DataSourceInfo{
			"docker_image":          dataSource("getRemoteImage"),
			"docker_logs":           dataSource("getLogs"),
			"docker_network":        dataSource("getNetwork"),
			"docker_plugin":         dataSource("getPlugin"),
			"docker_registry_image": dataSource("getRegistryImage"),
		},
	}
	info.SetAutonaming(255, "-")
	return info
}

func main() {
	// The schema serves code generation only; SDK 5.2 was made from the official one.
	tfbridge.Main("docker", version, provider(), []byte(`{"name":"docker","version":"`+version+`"}`))
}
