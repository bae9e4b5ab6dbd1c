// Command gitops reads one Kubernetes object as JSON from standard input and prints what a GitOps tool thinks of it, as
// "STATUS message": with kstatus, the library of Flux, or with a health script in the Lua engine of Argo CD. It asks no cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
)

// A health script that takes longer is broken.
const patience = time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gitops:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return fmt.Errorf("read the object: %w", err)
	}
	var object map[string]any
	// Not encoding/json: whole numbers have to stay whole, as kstatus wants them.
	if err := json.Unmarshal(text, &object); err != nil {
		return fmt.Errorf("read the object: %w", err)
	}
	var verdict, message string
	switch {
	case len(args) == 1 && args[0] == "kstatus":
		verdict, message, err = kstatus(object)
	case len(args) == 2 && args[0] == "argocd":
		verdict, message, err = argocd(object, args[1])
	default:
		err = errors.New("usage: gitops kstatus | gitops argocd FILE.lua, with the object on standard input")
	}
	if err != nil {
		return err
	}
	_, err = fmt.Println(verdict, message)
	return err
}

func kstatus(object map[string]any) (string, string, error) {
	result, err := status.Compute(&unstructured.Unstructured{Object: object})
	if err != nil {
		return "", "", fmt.Errorf("kstatus: %w", err)
	}
	return result.Status.String(), result.Message, nil
}

func argocd(object map[string]any, script string) (string, string, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	state.SetContext(ctx)
	for name, open := range map[string]lua.LGFunction{
		lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable, lua.StringLibName: lua.OpenString, lua.MathLibName: lua.OpenMath,
	} {
		state.Push(state.NewFunction(open))
		state.Push(lua.LString(name))
		state.Call(1, 0)
	}
	state.SetGlobal("obj", value(state, object))
	if err := state.DoFile(script); err != nil {
		return "", "", fmt.Errorf("run %s: %w", script, err)
	}
	health, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", fmt.Errorf("%s returned %s and no table", script, state.Get(-1).Type())
	}
	return health.RawGetString("status").String(), health.RawGetString("message").String(), nil
}

// value is the Lua value of a JSON value.
func value(state *lua.LState, from any) lua.LValue {
	switch from := from.(type) {
	case bool:
		return lua.LBool(from)
	case int64:
		return lua.LNumber(from)
	case float64:
		return lua.LNumber(from)
	case string:
		return lua.LString(from)
	case []any:
		table := state.NewTable()
		for _, item := range from {
			table.Append(value(state, item))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, item := range from {
			table.RawSetString(key, value(state, item))
		}
		return table
	}
	return lua.LNil
}
