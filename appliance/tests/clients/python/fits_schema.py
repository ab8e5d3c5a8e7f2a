"""Whether TOML on standard input fits the JSON Schema in the file that is named."""

import json
import sys
import tomllib

from jsonschema import Draft202012Validator

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
errors = list(Draft202012Validator(schema).iter_errors(tomllib.load(sys.stdin.buffer)))
for error in errors:
    print(f"{error.json_path}: {error.message}")
sys.exit(1 if errors else 0)
