package serverapi

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	"barrage/httpapi/apikey"
)

// object is a JSON object of the OpenAPI document; its keys are written in alphabetical order.
type object = map[string]any

// Document is the OpenAPI 3.1 document of the API, made from the table of methods and the types of their requests and results.
func Document() []byte {
	s := schemas{}
	paths := object{}
	for _, m := range methods {
		paths["/api/"+m.name] = object{"post": m.operation(s)}
	}
	paths["/api"] = object{"post": linesOperation(s)}
	doc := object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Barrage server API", "version": "1", "license": object{"name": "Apache License 2.0", "identifier": "Apache-2.0"},
			"description": "For an application's own servers. Names are those of Centrifugo's server API. A command that fails is answered by status 200 and an error with a code.",
		},
		"security": []any{object{"key": []any{}}, object{"authorization": []any{}}},
		"paths":    paths,
		"components": object{
			"securitySchemes": object{
				"key":           object{"type": "apiKey", "in": "header", "name": "X-API-Key"},
				"authorization": object{"type": "apiKey", "in": "header", "name": "Authorization", "description": "apikey KEY"},
			},
			"responses": refusals(),
			"schemas":   s,
		},
	}
	s.of(reflect.TypeFor[Error]())
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(doc); err != nil {
		panic("serverapi: " + err.Error()) // it holds texts alone
	}
	return b.Bytes()
}

// refused are the answers that are no outcome of a command, by status.
var refused = []struct{ status, name, description string }{
	{"400", "Malformed", "The body is not one JSON value."},
	{"401", "Unauthorized", "There is no valid API key."},
	{"403", "Forbidden", "The key's scope does not allow this, or no key is configured at all."},
	{"413", "TooLarge", "The body is too large."},
	{"429", "TooMany", "The address has sent too many requests without a valid key; Retry-After says when to come back."},
	{"503", "Busy", "Too many requests are under way; Retry-After says when to come back."},
}

func refusals() object {
	out := object{}
	for _, r := range refused {
		out[r.name] = object{"description": r.description, "content": jsonContent(object{
			"type": "object", "required": []any{"error"}, "properties": object{"error": ref("Error")},
		})}
	}
	return out
}

func responses(ok object) object {
	out := object{"200": ok}
	for _, r := range refused {
		out[r.status] = object{"$ref": "#/components/responses/" + r.name}
	}
	return out
}

func (m *method) operation(s schemas) object {
	var example any
	if err := json.Unmarshal([]byte(m.example), &example); err != nil {
		panic("serverapi: the example of " + m.name + ": " + err.Error())
	}
	content := jsonContent(s.of(m.request))
	content["application/json"].(object)["example"] = example
	return object{
		"operationId": m.name, "summary": m.summary, "x-summary-zh": m.chinese, "x-scope": m.scopes(),
		"description": "Scopes: " + m.scopes() + ".",
		"requestBody": object{"required": true, "content": content},
		"responses": responses(object{"description": "The outcome: result or error.", "content": jsonContent(object{
			"type": "object",
			"oneOf": []any{
				object{"required": []any{"result"}, "properties": object{"result": s.of(m.result)}, "additionalProperties": false},
				object{"required": []any{"error"}, "properties": object{"error": ref("Error")}, "additionalProperties": false},
			},
		})}),
	}
}

// scopes are the keys that may call m.
func (m *method) scopes() string {
	switch m.scope {
	case apikey.Publish:
		return "publish, admin"
	case apikey.Read:
		return "read, admin"
	case apikey.Manage:
		return "admin"
	}
	return "publish, read, admin"
}

// linesOperation is POST /api, whose body and answer are texts to OpenAPI: many JSON objects.
func linesOperation(s schemas) object {
	return object{
		"operationId": "lines", "summary": "Commands on lines, as older SDKs send them", "x-summary-zh": "每行一条命令（旧版 SDK 的格式）",
		"description": `Each line is an object {"method":…,"params":{…}}, and each line of the answer {"result":…} or {"error":…}; at most 1000.`,
		"requestBody": object{"required": true, "content": object{"application/x-ndjson": object{"schema": object{"type": "string"}}}},
		"responses":   responses(object{"description": "One reply for each line.", "content": jsonContent(object{})}),
	}
}

func jsonContent(schema object) object {
	return object{"application/json": object{"schema": schema}}
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

// schemas are the components of the document by the name of their Go type.
type schemas map[string]any

var rawMessage = reflect.TypeFor[json.RawMessage]()

// of describes a type, and adds it to the components when it is a struct.
func (s schemas) of(t reflect.Type) object {
	switch {
	case t == rawMessage || t.Kind() == reflect.Interface:
		return object{}
	case t.Kind() == reflect.Pointer:
		return s.of(t.Elem())
	case t.Kind() == reflect.Struct:
		if _, known := s[t.Name()]; !known {
			s[t.Name()] = nil // a type that refers to itself finds it
			s[t.Name()] = s.structure(t)
		}
		return ref(t.Name())
	case t.Kind() == reflect.Slice:
		return object{"type": "array", "items": s.of(t.Elem())}
	case t.Kind() == reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case t.Kind() == reflect.Bool:
		return object{"type": "boolean"}
	case t.Kind() == reflect.String:
		return object{"type": "string"}
	case t.Kind() == reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	}
	return object{"type": "integer"}
}

func (s schemas) structure(t reflect.Type) object {
	properties, required := object{}, []any{}
	s.fields(t, properties, &required)
	out := object{"type": "object"}
	if len(properties) > 0 {
		out["properties"] = properties
	}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

// fields adds the fields of t and of the structs that it embeds. Those of requests are required when their tag says so, those of
// results when they are never left out.
func (s schemas) fields(t reflect.Type, properties object, required *[]any) {
	request := strings.HasSuffix(t.Name(), "Request") || t == reflect.TypeFor[Target]()
	for f := range t.Fields() {
		if f.Anonymous {
			s.fields(f.Type, properties, required)
			continue
		}
		name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		schema := s.of(f.Type)
		if doc := f.Tag.Get("doc"); doc != "" {
			schema["description"], schema["x-description-zh"] = doc, f.Tag.Get("zh")
		}
		properties[name] = schema
		if f.Tag.Get("required") != "" || !request && option != "omitempty" {
			*required = append(*required, name)
		}
	}
}
