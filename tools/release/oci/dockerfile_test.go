package oci

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The Dockerfile makes the same image: the same user, entry point, capability, ports and files, and a statically linked
// program, built with the Go version of go.mod. The test compares the text, because not every machine can run Docker.
func TestDockerfile(t *testing.T) {
	const root = "../../../"
	content, err := os.ReadFile(root + "deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, last, found := strings.Cut(string(content), "\nFROM scratch\n")
	if !found {
		t.Fatal("the last stage is not FROM scratch")
	}
	for _, line := range []string{
		"USER " + User,
		`ENTRYPOINT ["` + entrypoint("coredns") + `"]`,
		"WORKDIR /",
		"EXPOSE 53/tcp 53/udp",
		"COPY --from=build /coredns /coredns",
		"COPY --from=build /mvctl /mvctl",
		"COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/",
	} {
		if !strings.Contains("\n"+last, "\n"+line+"\n") {
			t.Errorf("the Dockerfile has no line %q", line)
		}
	}
	if n := len(regexp.MustCompile(`(?m)^COPY`).FindAllString(last, -1)); n != 3 {
		t.Errorf("%d COPY lines in the last stage, want one for each program and one for the certificates", n)
	}
	module, err := os.ReadFile(root + "go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(module))
	if version == nil || !strings.Contains(string(content), "\nFROM golang:"+version[1]+" AS build\n") {
		t.Errorf("not built with the Go version of go.mod, %q", version)
	}
	if !strings.Contains(string(content), "CGO_ENABLED=0 go build") || !strings.Contains(string(content), "setcap cap_net_bind_service=+ep /coredns\n") {
		t.Error("the program is not built with CGO_ENABLED=0, or has no capability")
	}
	for _, page := range []string{"deploy/Dockerfile", "docs/kubernetes.md", "tools/release/image/main.go"} {
		if text, err := os.ReadFile(root + page); err != nil || !strings.Contains(string(text), "CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' ") {
			t.Errorf("%s does not have the same build command: %v", page, err)
		}
	}
}
