package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
)

func deployed(parts ...string) string {
	return filepath.Join(append([]string{"..", "..", "deploy"}, parts...)...)
}

// manifestDoc is what our Kubernetes manifests may consist of; a name that is not here, or not where it belongs, is a mistake in the manifest.
type manifestDoc struct {
	APIVersion string            `yaml:"apiVersion"`
	Kind       string            `yaml:"kind"`
	Metadata   manifestMeta      `yaml:"metadata"`
	Type       string            `yaml:"type"`
	Data       map[string]string `yaml:"data"`
	StringData map[string]string `yaml:"stringData"`
	Spec       struct {
		Replicas                int               `yaml:"replicas"`
		Selector                yaml.Node         `yaml:"selector"`
		Template                manifestTemplate  `yaml:"template"`
		Ports                   []manifestPort    `yaml:"ports"`
		MinAvailable            int               `yaml:"minAvailable"`
		Schedule                string            `yaml:"schedule"`
		TimeZone                string            `yaml:"timeZone"`
		ConcurrencyPolicy       string            `yaml:"concurrencyPolicy"`
		StartingDeadlineSeconds int               `yaml:"startingDeadlineSeconds"`
		PodSelector             manifestSelector  `yaml:"podSelector"`
		PolicyTypes             []string          `yaml:"policyTypes"`
		Ingress                 []manifestNetwork `yaml:"ingress"`
		Egress                  []manifestNetwork `yaml:"egress"`
		JobTemplate             struct {
			Spec struct {
				BackoffLimit     int `yaml:"backoffLimit"`
				PodFailurePolicy struct {
					Rules []struct {
						Action      string `yaml:"action"`
						OnExitCodes struct {
							ContainerName string `yaml:"containerName"`
							Operator      string `yaml:"operator"`
							Values        []int  `yaml:"values"`
						} `yaml:"onExitCodes"`
					} `yaml:"rules"`
				} `yaml:"podFailurePolicy"`
				Template manifestTemplate `yaml:"template"`
			} `yaml:"spec"`
		} `yaml:"jobTemplate"`
	} `yaml:"spec"`
}

type manifestMeta struct {
	Name   string            `yaml:"name"`
	Labels map[string]string `yaml:"labels"`
}

type manifestSelector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

type manifestPort struct {
	Name          string `yaml:"name"`
	ContainerPort int    `yaml:"containerPort"`
	Port          int    `yaml:"port"`
	TargetPort    string `yaml:"targetPort"`
	Protocol      string `yaml:"protocol"`
}

type manifestNetwork struct {
	From, To []struct {
		NamespaceSelector manifestSelector `yaml:"namespaceSelector"`
		IPBlock           struct {
			CIDR string `yaml:"cidr"`
		} `yaml:"ipBlock"`
	}
	Ports []manifestPort
}

type manifestProbe struct {
	HTTPGet struct {
		Path, Port string
	} `yaml:"httpGet"`
	PeriodSeconds    int `yaml:"periodSeconds"`
	TimeoutSeconds   int `yaml:"timeoutSeconds"`
	FailureThreshold int `yaml:"failureThreshold"`
}

type manifestTemplate struct {
	Metadata manifestMeta `yaml:"metadata"`
	Spec     struct {
		AutomountServiceAccountToken  *bool  `yaml:"automountServiceAccountToken"`
		TerminationGracePeriodSeconds int    `yaml:"terminationGracePeriodSeconds"`
		RestartPolicy                 string `yaml:"restartPolicy"`
		SecurityContext               struct {
			RunAsNonRoot   bool              `yaml:"runAsNonRoot"`
			RunAsUser      int               `yaml:"runAsUser"`
			RunAsGroup     int               `yaml:"runAsGroup"`
			FSGroup        int               `yaml:"fsGroup"`
			SeccompProfile map[string]string `yaml:"seccompProfile"`
		} `yaml:"securityContext"`
		Containers []struct {
			Name           string
			Image          string
			Args           []string
			EnvFrom        []map[string]map[string]string `yaml:"envFrom"`
			Ports          []manifestPort
			StartupProbe   manifestProbe                `yaml:"startupProbe"`
			LivenessProbe  manifestProbe                `yaml:"livenessProbe"`
			ReadinessProbe manifestProbe                `yaml:"readinessProbe"`
			Resources      map[string]map[string]string `yaml:"resources"`

			SecurityContext struct {
				AllowPrivilegeEscalation *bool               `yaml:"allowPrivilegeEscalation"`
				ReadOnlyRootFilesystem   bool                `yaml:"readOnlyRootFilesystem"`
				Capabilities             map[string][]string `yaml:"capabilities"`
			} `yaml:"securityContext"`
			VolumeMounts []struct {
				Name      string
				MountPath string `yaml:"mountPath"`
				ReadOnly  bool   `yaml:"readOnly"`
			} `yaml:"volumeMounts"`
		}
		Volumes []struct {
			Name      string
			ConfigMap map[string]string `yaml:"configMap"`
			EmptyDir  map[string]string `yaml:"emptyDir"`
		}
	} `yaml:"spec"`
}

func manifests(t *testing.T) []manifestDoc {
	t.Helper()
	files, err := filepath.Glob(deployed("kubernetes", "*.yaml"))
	if err != nil || len(files) < 5 {
		t.Fatalf("%d manifests, %v", len(files), err)
	}
	var all []manifestDoc
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		decoder := yaml.NewDecoder(bytes.NewReader(text))
		decoder.KnownFields(true)
		for {
			var doc manifestDoc
			err := decoder.Decode(&doc)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			all = append(all, doc)
		}
	}
	return all
}

// The manifests hold together: what one names another has, pods may do nothing they need not, and the configuration in them can be loaded.
func TestKubernetesManifests(t *testing.T) {
	t.Parallel()
	kinds, configs, pods := map[string]int{}, map[string]manifestDoc{}, 0
	docs := manifests(t)
	for _, d := range docs {
		kinds[d.Kind]++
		if d.APIVersion == "" || d.Metadata.Name == "" {
			t.Errorf("a %s without version or name", d.Kind)
		}
		if d.Kind == "ConfigMap" {
			configs[d.Metadata.Name] = d
		}
	}
	for kind, want := range map[string]int{"Deployment": 2, "CronJob": 1, "NetworkPolicy": 1, "Service": 1, "ConfigMap": 2, "Secret": 1, "PodDisruptionBudget": 1} {
		if kinds[kind] != want {
			t.Errorf("%d of kind %s, want %d", kinds[kind], kind, want)
		}
	}
	for _, d := range docs {
		template := d.Spec.Template
		if d.Kind == "CronJob" {
			template = d.Spec.JobTemplate.Spec.Template
			if template.Spec.RestartPolicy != "Never" || d.Spec.ConcurrencyPolicy != "Forbid" || !slices.Equal(d.Spec.JobTemplate.Spec.PodFailurePolicy.Rules[0].OnExitCodes.Values,
				[]int{int(exitUsage), int(exitProblems), int(exitHeld)}) || d.Spec.JobTemplate.Spec.PodFailurePolicy.Rules[0].OnExitCodes.ContainerName != template.Spec.Containers[0].Name {
				t.Errorf("%s: it would be tried again when that helps nobody, or run twice at once", d.Metadata.Name)
			}
		}
		if d.Kind != "Deployment" && d.Kind != "CronJob" {
			continue
		}
		pods++
		pod := template.Spec
		if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken || !pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.RunAsUser != 65532 ||
			pod.SecurityContext.SeccompProfile["type"] != "RuntimeDefault" || pod.TerminationGracePeriodSeconds < 85 {
			t.Errorf("%s: the pod may more than it needs, or has too little time to end", d.Metadata.Name)
		}
		volumes := map[string]bool{}
		for _, v := range pod.Volumes {
			volumes[v.Name] = true
			if name := v.ConfigMap["name"]; name != "" && configs[name].Kind == "" {
				t.Errorf("%s: there is no ConfigMap %s", d.Metadata.Name, name)
			}
		}
		c := pod.Containers[0]
		if c.SecurityContext.AllowPrivilegeEscalation == nil || *c.SecurityContext.AllowPrivilegeEscalation || !c.SecurityContext.ReadOnlyRootFilesystem ||
			!slices.Equal(c.SecurityContext.Capabilities["drop"], []string{"ALL"}) || c.Resources["limits"]["memory"] == "" {
			t.Errorf("%s: the container may more than it needs", d.Metadata.Name)
		}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%s: there is no volume %s", d.Metadata.Name, m.Name)
			}
			if strings.HasPrefix(m.MountPath, "/etc/edfisync/") {
				t.Errorf("%s: %s is inside a ConfigMap, where nothing can be mounted", d.Metadata.Name, m.MountPath)
			}
		}
		if d.Kind == "Deployment" && (c.LivenessProbe.HTTPGet.Path != "/healthz" || c.StartupProbe.HTTPGet.Path != "/healthz" || c.ReadinessProbe.HTTPGet.Path != "/readyz") {
			t.Errorf("%s: the probes are %+v", d.Metadata.Name, c)
		}
		// The arguments are ones that the program takes.
		if got := run(t.Context(), append(slices.Clone(c.Args), "--help"), streams{out: io.Discard, err: io.Discard}, os.LookupEnv); got != int(exitOK) {
			t.Errorf("%s: edfisync %s: exit code %d", d.Metadata.Name, strings.Join(c.Args, " "), got)
		}
	}
	if pods != 3 {
		t.Errorf("%d pods, want 3", pods)
	}
	secret := docs[slices.IndexFunc(docs, func(d manifestDoc) bool { return d.Kind == "Secret" })].StringData
	loadDeployed(t, configs["edfisync"].Data["edfisync.yaml"], func(name string) (string, bool) { v, ok := secret[name]; return v, ok })
}

// loadDeployed loads a configuration and fails the test when it has a problem.
func loadDeployed(t *testing.T, text string, lookup func(string) (string, bool)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "edfisync.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(file, lookup); err != nil {
		t.Errorf("the configuration cannot be loaded: %v", err)
	}
}

func TestSystemdUnits(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		text, err := os.ReadFile(deployed("systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	unit := read("edfisync.service")
	for _, want := range []string{
		"Type=notify", "User=edfisync", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n", "SystemCallFilter=@system-service", "LimitCORE=0", "UMask=0077",
		"StateDirectoryMode=0700", "PrivateTmp=yes", "StartLimitIntervalSec=0\n", "ExecStart=/usr/local/bin/edfisync serve ",
	} {
		if !strings.Contains(unit, want) {
			t.Errorf("the unit lacks %q", want)
		}
	}
	dir, text := t.TempDir(), read("edfisync.yaml")
	for _, m := range regexp.MustCompile(`\$\{credential:([^}]+)\}`).FindAllStringSubmatch(text, -1) {
		for _, name := range []string{"edfisync.service", "edfisync-backup.service"} {
			if !strings.Contains(read(name), "LoadCredential="+m[1]+":/etc/edfisync/credentials/"+m[1]+"\n") {
				t.Errorf("%s does not load the credential %s", name, m[1])
			}
		}
		if err := os.WriteFile(filepath.Join(dir, m[1]), []byte(strings.Repeat("5a", 32)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	loadDeployed(t, text, func(name string) (string, bool) { return dir, name == "CREDENTIALS_DIRECTORY" })

	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze to verify the units")
	}
	program := filepath.Join(dir, "edfisync")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	files := []string{"verify", "--man=no"}
	for _, name := range []string{"edfisync.service", "edfisync-backup.service", "edfisync-backup.timer"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(read(name), "/usr/local/bin/edfisync", program)), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	said, err := exec.CommandContext(t.Context(), analyze, files...).CombinedOutput()
	for line := range strings.Lines(string(said)) {
		if strings.Contains(line, "edfisync") { // not what else is wrong with this machine's units
			t.Errorf("systemd-analyze: %s", line)
		}
	}
	if err != nil && !strings.Contains(string(said), "edfisync") {
		t.Logf("systemd-analyze: %v: %s", err, said)
	}
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(deployed("docker", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	instruction := regexp.MustCompile(`^([A-Z]+) (.+)$`)
	stages := []map[string][]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		m := instruction.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("not an instruction: %s", line)
		}
		if m[1] == "FROM" {
			stages = append(stages, map[string][]string{})
		}
		stages[len(stages)-1][m[1]] = append(stages[len(stages)-1][m[1]], m[2])
	}
	last := stages[len(stages)-1]
	if len(stages) != 2 || last["FROM"][0] != "gcr.io/distroless/static-debian12:nonroot" || last["USER"][0] != "65532:65532" || last["RUN"] != nil || last["ADD"] != nil ||
		last["ENTRYPOINT"][0] != `["/usr/local/bin/edfisync"]` {
		t.Errorf("the image is not one of nothing but the program, for a user that is not root: %v", last)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(document(t, "go.mod"))
	if !strings.HasPrefix(stages[0]["FROM"][0], "golang:"+version[1]+" ") {
		t.Errorf("the image is built with %s, and the module wants Go %s", stages[0]["FROM"][0], version[1])
	}
}

func TestOrchestratorExamplesCompile(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	for _, file := range []string{deployed("airflow", "edfisync_dag.py"), deployed("dagster", "edfisync_job.py")} {
		compile := "import sys; compile(open(sys.argv[1], encoding='utf-8').read(), sys.argv[1], 'exec')"
		if said, err := exec.CommandContext(t.Context(), python, "-c", compile, file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, said)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`\[("edfisync", [^\]]+)\]`).FindStringSubmatch(string(text))
		if m == nil {
			t.Fatalf("%s does not call the program", file)
		}
		var args []string
		for _, word := range strings.Split(m[1], ", ")[1:] {
			args = append(args, strings.Trim(word, `"`))
		}
		if got := run(t.Context(), append(args, "--help"), streams{out: io.Discard, err: io.Discard}, os.LookupEnv); got != int(exitOK) {
			t.Errorf("%s: edfisync %v: exit code %d", file, args, got)
		}
	}
}
