module github.com/terraform-providers/terraform-provider-docker/shim

go 1.21

require github.com/hashicorp/terraform-plugin-sdk/v2 v2.33.0

require github.com/terraform-providers/terraform-provider-docker v0.0.0-00010101000000-000000000000

replace (
	github.com/hashicorp/terraform-plugin-sdk/v2 => github.com/pulumi/terraform-plugin-sdk/v2 v2.0.0-20260318212141-5525259d096b
	github.com/terraform-providers/terraform-provider-docker => github.com/kreuzwerker/terraform-provider-docker v0.0.0-20221102105757-3489fbbafc7b
)
