"""docs/openapi.yaml, and whether an answer is as it says.

    document.check(answer)      AssertionError with what is not as documented; every answer that an Api client gets goes
                                through it
    document.operations         {"sign_up": Operation, …}

Any thread."""

import functools
import re

import jsonschema_rs
import yaml

from .util import PROJECT

PATH = PROJECT / "docs" / "openapi.yaml"
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
PROBLEM = "application/problem+json"
SHOWN = 5  # faults of one answer that are told


class Operation:
    def __init__(self, document, method, path, item, raw):
        self.name = raw["operationId"]
        self.method = method.upper()
        self.path = path
        self.raw = raw
        self.keys = {name for choice in raw["security"] for name in choice}  # "secretKey", "publishableKey"; none: open
        self.parameters = [document.resolve(p) for p in item.get("parameters", []) + raw.get("parameters", [])]
        self.responses = {int(status): document.resolve(r) for status, r in raw["responses"].items()}
        self.body = document.resolve(raw.get("requestBody"))

    def __repr__(self):
        return f"{self.name} ({self.method} {self.path})"

    def takes(self, header):
        return any(p["in"] == "header" and p["name"] == header for p in self.parameters)

    def problems(self, status):
        """The slugs that the document names for a status."""
        found = set()

        def look(schema):
            kind = schema.get("properties", {}).get("type", {})
            found.update(kind.get("enum", [kind["const"]] if "const" in kind else []))
            for part in schema.get("allOf", []) + schema.get("oneOf", []):
                look(part)

        for content in self.responses[status].get("content", {}).values():
            look(content.get("schema", {}))
        return {kind.rsplit(":", 1)[1] for kind in found if kind.startswith("urn:")}


class Document:
    def __init__(self, text):
        self.raw = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self.operations = {}
        self._by_path = []  # (regular expression, {"GET": Operation})
        for path, item in self.raw["paths"].items():
            methods = {}
            for method in METHODS:
                if method in item:
                    operation = Operation(self, method, path, item, item[method])
                    assert operation.name not in self.operations, f"two operations are called {operation.name}"
                    methods[operation.method] = self.operations[operation.name] = operation
            pattern = "[^/]+".join(map(re.escape, re.split(r"\{[a-z_]+\}", path)))
            self._by_path.append((re.compile(pattern), methods))
        self._validators = {}

    def resolve(self, node):
        """What a $ref to somewhere in the document stands for."""
        while node and "$ref" in node:
            found = self.raw
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            node = found
        return node

    def find(self, method, path):
        """(the Operation or None, whether the path is known). HEAD is GET's."""
        path = path.split("?")[0]
        for pattern, methods in self._by_path:
            if pattern.fullmatch(path):
                return methods.get("GET" if method == "HEAD" else method), True
        return None, False

    def validate(self, schema, value, key=None):
        """What is wrong with a value, sentences. key: what to remember the compiled schema by."""
        validator = self._validators.get(key) if key else None
        if not validator:
            validator = jsonschema_rs.Draft202012Validator({**schema, "components": self.raw["components"]},
                                                           validate_formats=True)
            if key:
                self._validators[key] = validator
        return [f"{'/'.join(map(str, e.instance_path)) or '(all)'}: {e.message}"
                for e, _ in zip(validator.iter_errors(value), range(SHOWN))]

    def faults(self, answer):
        """What is not as documented in an answer (lib/api.py's), sentences."""
        operation, path_known = self.find(answer.method, answer.path)
        if not operation:
            if path_known and answer.method == "OPTIONS":
                return [] if answer.status == 204 else [f"status {answer.status}, not 204"]
            if answer.status in (400, 413):  # refused as HTTP
                return self._problem_faults(answer)
            status, slug = (405, "method-not-allowed") if path_known else (404, "no-route")
            if (answer.status, answer.problem) != (status, slug):
                return [f"{answer.status} {answer.problem}, not {status} {slug}"]
            return self._problem_faults(answer)
        response = operation.responses.get(answer.status)
        if not response:
            if answer.status in (400, 413) and answer.problem in ("malformed", "too-large"):
                return self._problem_faults(answer)
            return [f"status {answer.status} is not documented"]
        found = self._header_faults(answer, response, (operation.name, answer.status))
        if answer.method == "HEAD":
            return found
        return found + self._body_faults(answer, response, (operation.name, answer.status))

    def _problem_faults(self, answer):
        return self.validate({"$ref": "#/components/schemas/Problem"}, answer.body, "problem")

    def _header_faults(self, answer, response, key):
        found = []
        for name, header in response.get("headers", {}).items():
            header = self.resolve(header)
            value = answer.headers.get(name)
            if value is None:
                found += [f"there is no {name}"] if header.get("required") else []
                continue
            if self.resolve(header["schema"]).get("type") == "integer" and re.fullmatch("-?[0-9]+", value):
                value = int(value)
            found += [f"{name}: {fault}" for fault in self.validate(header["schema"], value, (*key, name))]
        for name in ("Retry-After", "Location", "Idempotency-Replayed"):
            if name in answer.headers and name not in response.get("headers", {}):
                found.append(f"{name} is not documented")
        return found

    def _body_faults(self, answer, response, key):
        kind = answer.headers.get("content-type", "")
        if "content" not in response and not answer.text:
            return []
        content = response.get("content", {}).get(kind.split(";")[0].strip())
        if content is None:
            # A page's request that is no good HTTP is refused before the path is looked at.
            if kind == PROBLEM and answer.problem in ("malformed", "too-large"):
                return self._problem_faults(answer)
            return [f"content type {kind!r}, not one of {list(response.get('content', {}))}"]
        found = []
        if "json" in kind:
            found = self.validate(content["schema"], answer.body, key)
            if kind == PROBLEM and not found:
                if answer["status"] != answer.status:
                    found.append(f"status {answer['status']} in the body of a {answer.status}")
                if answer["request_id"] != answer.headers.get("x-request-id"):
                    found.append("request_id is not X-Request-Id")
        return found

    def check(self, answer):
        found = self.faults(answer)
        assert not found, (f"{answer.method} {answer.path}: {answer.status}: not as docs/openapi.yaml has it:\n"
                           + "\n".join(found[:SHOWN]) + f"\n{answer.text[:2000]}")


@functools.cache
def load():
    return Document(PATH.read_text())
