package stacks

import (
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// GoCache is dev's volume of Go modules and builds, shared by the services. It outlives the stack
// like every volume, so that the next `up` starts in seconds.
const GoCache = "go-cache"

// DevelopmentStage is the stage of a Dockerfile that has the toolchain, and mounts the sources.
const DevelopmentStage = "development"

// SourcesDir is where development containers have the checkout.
const SourcesDir = "/src"

// debuggers maps each service to the port of its debugger, which its .air.toml starts.
var debuggers = map[string]int{
	Backend:   2345,
	Frontend:  2346,
	ML:        2347,
	Gate:      2348,
	Knowledge: 2350,
}

// dev mounts the sources into the development images: an edit is compiled and running within
// seconds. Every port is published on the machine's loopback address, and each service has a
// debugger. On a cluster, whose containers cannot mount the checkout, it runs the production images
// with debug logs.
func dev(s *Stack, c Checkout) {
	s.Development = true
	edit(s, func(c contract.Environment) {
		c.Shared().Debug, c.Shared().DrainTimeout = true, 5*time.Second
	})
	// A developer does not wait for an answer to end.
	for i := range s.Services {
		if s.Services[i].Contract != nil {
			s.Services[i].StopGrace = 20 * time.Second
		}
	}

	if !c.Mountable {
		return
	}

	s.Volumes = append(s.Volumes, Volume{Name: GoCache, Size: 5 * GiB})
	for i := range s.Services {
		svc := &s.Services[i]
		svc.Ports[0].Host = svc.Ports[0].Container
		if svc.Contract == nil {
			continue
		}

		svc.Image.Build.Target = DevelopmentStage
		// The development stage has linters in it and no sources: an edit of a source changes no plan.
		svc.Image.Build.Repository += "-dev"
		svc.Image.Build.Context, svc.Image.Build.Dockerfile = "tools/lint", "services/Dockerfile"
		port := debuggers[svc.Name]
		svc.Ports = append(svc.Ports, Port{
			Name:      "debugger",
			Container: port,
			Host:      port,
			Address:   loopback,
		})

		svc.Mounts = append(svc.Mounts,
			Mount{Kind: MountBind, Source: ".", Target: SourcesDir, ReadOnly: true},
			Mount{Kind: MountVolume, Source: GoCache, Target: "/cache"},
			Mount{Kind: MountTmpfs, Target: "/tmp", Size: 256 * MiB})

		svc.Health.Command = append([]string{"/cache/bin/" + svc.Name}, svc.Health.Command[1:]...)
		// The first start downloads modules and compiles: minutes on a small machine.
		svc.Health.StartPeriod, svc.StartTimeout = 10*time.Minute, 15*time.Minute
		// The compiler needs more than the service.
		svc.Resources = Resources{CPU: 2000, Memory: 2 * GiB, PIDs: 1024}
		// What the containers write is the developer's. Root's checkout keeps
		// the services' own user.
		if c.UID > 0 {
			svc.Security.UID = c.UID
		}
		if c.GID > 0 {
			svc.Security.GID = c.GID
		}
	}
}
