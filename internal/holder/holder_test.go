package holder

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

func TestDeadTellsKilledProcessesFromLivingAndForeignOnes(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells when a process started")
	}
	child := exec.CommandContext(t.Context(), "sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	living := name(child.Process.Pid)
	if Dead(living) {
		t.Error("a living process is called dead")
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if !Dead(living) {
		t.Error("a killed process is not called dead")
	}
	parts := strings.Split(living, "|")
	for what, foreign := range map[string]string{
		"another machine":    strings.Replace(living, parts[0], "elsewhere", 1),
		"another pid space":  strings.Replace(living, parts[1], "other/pid:[1]", 1),
		"a name without one": "edfisync",
	} {
		if Dead(foreign) {
			t.Errorf("%s: called dead, but nobody here can say", what)
		}
	}
	self := strings.Split(Name(), "|")
	self[3] = "1"
	if !Dead(strings.Join(self, "|")) {
		t.Error("a process whose id was used again is not called dead")
	}
	if Dead(Name()) || os.Getpid() == 0 {
		t.Error("this process is called dead")
	}
}
