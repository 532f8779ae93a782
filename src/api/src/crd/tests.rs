use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::crds;

/// What `kubectl apply` without `--server-side` still takes, with room to spare.
const BYTES_MAX: usize = 200_000;

fn schema(crd: &CustomResourceDefinition) -> Value {
    let version = &crd.spec.versions[0];
    serde_json::to_value(&version.schema.as_ref().unwrap().open_api_v3_schema).unwrap()
}

/// Calls `visit` with the path of every schema below this one, itself included.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]"), &schema["items"], visit);
    }
    if schema["additionalProperties"].is_object() {
        walk(
            &format!("{path}{{}}"),
            &schema["additionalProperties"],
            visit,
        );
    }
}

#[test]
fn each_definition_stays_small() {
    for crd in crds() {
        let bytes = serde_json::to_vec(&crd).unwrap().len();
        assert!(bytes < BYTES_MAX, "{:?}: {bytes}", crd.metadata.name);
    }
}

#[test]
fn everything_in_a_spec_is_bounded() {
    for crd in crds() {
        let mut unbounded = Vec::new();
        walk(
            "spec",
            &schema(&crd)["properties"]["spec"],
            &mut |path, schema| {
                let bound = match schema["type"].as_str() {
                    Some("string") if schema["enum"].is_null() => "maxLength",
                    Some("array") => "maxItems",
                    Some("integer") => "maximum",
                    Some("object") if schema["additionalProperties"].is_object() => "maxProperties",
                    _ => return,
                };
                if schema[bound].is_null() {
                    unbounded.push(format!("{path} has no {bound}"));
                }
            },
        );
        assert_eq!(unbounded, Vec::<String>::new());
    }
}

#[test]
fn no_list_item_has_a_default() {
    for crd in crds() {
        let mut found = Vec::new();
        walk("", &schema(&crd), &mut |path, schema| {
            if path.contains("[]") && !schema["default"].is_null() {
                found.push(path.to_owned());
            }
        });
        assert_eq!(found, Vec::<String>::new());
    }
}

#[test]
fn every_rule_has_a_message() {
    for crd in crds() {
        let mut rules = 0;
        walk("", &schema(&crd), &mut |path, schema| {
            for rule in schema["x-kubernetes-validations"]
                .as_array()
                .into_iter()
                .flatten()
            {
                assert!(rule["message"].is_string(), "{path}: {rule}");
                rules += 1;
            }
        });
        assert!(rules > 0);
    }
}

#[test]
fn every_format_is_known_to_kubernetes() {
    for crd in crds() {
        walk("", &schema(&crd), &mut |path, schema| {
            let format = schema["format"].as_str().unwrap_or("int64");
            assert!(
                ["int32", "int64", "date-time"].contains(&format),
                "{path}: {format}"
            );
        });
    }
}

#[test]
fn status_is_born_unobserved() {
    for crd in crds() {
        let status = &schema(&crd)["properties"]["status"];
        assert_eq!(
            status["default"],
            serde_json::json!({"observedGeneration": -1})
        );
    }
}
