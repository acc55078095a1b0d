//! Evaluates a template with the values it may see.

use super::language::{Expression, Fault, Filter, Node, parse};
use std::borrow::Cow;
use std::collections::BTreeMap;

const MOST_STEPS: usize = 1_000_000;
const MOST_OUTPUT_BYTES: usize = 4 << 20;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Number(i64),
    Truth(bool),
    Map(&'a BTreeMap<String, String>),
    Maps(&'a BTreeMap<String, BTreeMap<String, String>>),
    /// What a map does not have, by its full name.
    Missing(String),
}

/// The values a template sees, by their first name.
pub(super) type Scope<'a> = BTreeMap<String, Value<'a>>;

/// Renders a template.
pub(super) fn render<'a>(
    source: &str,
    scope: Scope<'a>,
    config: &'a BTreeMap<String, String>,
) -> Result<String, Fault> {
    let nodes = parse(source)?;
    let mut renderer = Renderer { scope, config, output: String::new(), steps: 0 };
    renderer.nodes(&nodes)?;
    Ok(renderer.output)
}

struct Renderer<'a> {
    scope: Scope<'a>,
    config: &'a BTreeMap<String, String>,
    output: String,
    steps: usize,
}

impl<'a> Renderer<'a> {
    fn nodes(&mut self, nodes: &[Node]) -> Result<(), Fault> {
        for node in nodes {
            match node {
                Node::Text(text) => self.write(text, 0)?,
                Node::Output(expression, line) => {
                    let text = self.text(expression, *line)?;
                    self.write(&text, *line)?;
                }
                Node::If(branches, line) => self.branches(branches, *line)?,
                Node::For { names, over, body, line } => self.repeat(names, over, body, *line)?,
            }
        }
        Ok(())
    }

    fn branches(&mut self, branches: &[(Option<Expression>, Vec<Node>)], line: usize) -> Result<(), Fault> {
        for (condition, nodes) in branches {
            let is_met = match condition {
                Some(condition) => truth(&self.value(condition, line)?),
                None => true,
            };
            if is_met {
                return self.nodes(nodes);
            }
        }
        Ok(())
    }

    fn repeat(
        &mut self,
        names: &[String],
        over: &Expression,
        body: &[Node],
        line: usize,
    ) -> Result<(), Fault> {
        let pairs: Vec<(&'a String, Value<'a>)> = match self.value(over, line)? {
            Value::Map(map) => map.iter().map(|(key, value)| (key, text(value))).collect(),
            Value::Maps(maps) => maps.iter().map(|(key, map)| (key, Value::Map(map))).collect(),
            Value::Missing(name) => return Err((line, format!("`{name}` is not known"))),
            _ => return Err((line, "`for` goes over a map only".to_owned())),
        };
        let hidden: Vec<_> = names.iter().map(|name| (name.clone(), self.scope.remove(name))).collect();
        for (key, value) in pairs {
            let values = [text(key), value];
            self.scope.extend(names.iter().cloned().zip(values));
            self.nodes(body)?;
            self.step(line)?;
        }
        for (name, value) in hidden {
            self.scope.remove(&name);
            self.scope.extend(value.map(|value| (name, value)));
        }
        Ok(())
    }

    fn write(&mut self, text: &str, line: usize) -> Result<(), Fault> {
        self.step(line)?;
        if self.output.len() + text.len() > MOST_OUTPUT_BYTES {
            return Err((line, format!("it makes more than {MOST_OUTPUT_BYTES} bytes")));
        }
        self.output.push_str(text);
        Ok(())
    }

    fn step(&mut self, line: usize) -> Result<(), Fault> {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            Err((line, format!("it takes more than {MOST_STEPS} steps")))
        } else {
            Ok(())
        }
    }

    fn value(&mut self, expression: &Expression, line: usize) -> Result<Value<'a>, Fault> {
        self.step(line)?;
        Ok(match expression {
            Expression::Text(text) => Value::Text(Cow::Owned(text.clone())),
            Expression::Number(number) => Value::Number(*number),
            Expression::Truth(truth) => Value::Truth(*truth),
            Expression::Path(name, keys) => self.path(name, keys, line)?,
            Expression::ConfigGet(key, default) => {
                let key = self.text(key, line)?;
                match (self.config.get(key.as_ref()), default) {
                    (Some(value), _) => text(value),
                    (None, Some(default)) => self.value(default, line)?,
                    (None, None) => Value::Text(Cow::Borrowed("")),
                }
            }
            Expression::Filter(value, filter) => self.filter(value, filter, line)?,
            Expression::Not(value) => Value::Truth(!truth(&self.value(value, line)?)),
            Expression::And(left, right) => {
                Value::Truth(truth(&self.value(left, line)?) && truth(&self.value(right, line)?))
            }
            Expression::Or(left, right) => {
                Value::Truth(truth(&self.value(left, line)?) || truth(&self.value(right, line)?))
            }
            Expression::Same(left, right, wanted) => {
                let is_same = self.text(left, line)? == self.text(right, line)?;
                Value::Truth(is_same == *wanted)
            }
            Expression::In(piece, whole) => {
                let piece = self.text(piece, line)?;
                Value::Truth(match self.value(whole, line)? {
                    Value::Map(map) => map.contains_key(piece.as_ref()),
                    Value::Maps(maps) => maps.contains_key(piece.as_ref()),
                    other => as_text(other, line)?.contains(piece.as_ref()),
                })
            }
        })
    }

    fn path(&mut self, name: &str, keys: &[Expression], line: usize) -> Result<Value<'a>, Fault> {
        let known = self.scope.get(name).cloned();
        let mut value = known.ok_or_else(|| (line, format!("`{name}` is not known")))?;
        let mut full = name.to_owned();
        for key in keys {
            let key = self.text(key, line)?;
            full = format!("{full}.{key}");
            value = match value {
                Value::Map(map) => map.get(key.as_ref()).map(|value| text(value)),
                Value::Maps(maps) => maps.get(key.as_ref()).map(Value::Map),
                _ => None,
            }
            .unwrap_or_else(|| Value::Missing(full.clone()));
        }
        Ok(value)
    }

    fn filter(&mut self, value: &Expression, filter: &Filter, line: usize) -> Result<Value<'a>, Fault> {
        let value = self.value(value, line)?;
        if let Filter::Default(other) = filter {
            return if truth(&value) { Ok(value) } else { self.value(other, line) };
        }
        let value = as_text(value, line)?;
        Ok(Value::Text(match filter {
            Filter::Lower => Cow::Owned(value.to_lowercase()),
            Filter::Upper => Cow::Owned(value.to_uppercase()),
            Filter::Trim => Cow::Owned(value.trim().to_owned()),
            Filter::Safe | Filter::Default(_) => value,
        }))
    }

    fn text(&mut self, expression: &Expression, line: usize) -> Result<Cow<'a, str>, Fault> {
        as_text(self.value(expression, line)?, line)
    }
}

fn text(text: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(text))
}

fn truth(value: &Value<'_>) -> bool {
    match value {
        Value::Text(text) => !text.is_empty(),
        Value::Number(number) => *number != 0,
        Value::Truth(truth) => *truth,
        Value::Map(map) => !map.is_empty(),
        Value::Maps(maps) => !maps.is_empty(),
        Value::Missing(_) => false,
    }
}

fn as_text(value: Value<'_>, line: usize) -> Result<Cow<'_, str>, Fault> {
    match value {
        Value::Text(text) => Ok(text),
        Value::Number(number) => Ok(Cow::Owned(number.to_string())),
        Value::Truth(truth) => Ok(Cow::Borrowed(if truth { "true" } else { "false" })),
        Value::Map(_) | Value::Maps(_) => Err((line, "a map is no text: name one of its keys".to_owned())),
        Value::Missing(name) => Err((line, format!("`{name}` is not known"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rendered(source: &str) -> Result<String, Fault> {
        let map = BTreeMap::from([("user.x".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        let maps = BTreeMap::from([("eth0".to_owned(), map.clone())]);
        let scope = Scope::from([
            ("config".to_owned(), Value::Map(&map)),
            ("devices".to_owned(), Value::Maps(&maps)),
            ("path".to_owned(), text("/etc/X")),
        ]);
        render(source, scope, &map)
    }

    #[test]
    fn the_language_does_what_it_says() {
        let cases = [
            ("a {{ path }} b{# {{ no }} #}\n", "a /etc/X b\n"),
            ("{{ path|lower }}{{path|upper}}", "/etc/x/ETC/X"),
            ("{{ config[\"user.x\"] }}{{ devices.eth0['user.x'] }}", "11"),
            ("{{ config.none|default:\"d\" }}{{ config.b|default('e') }}", "de"),
            ("{{ config_get(\"user.x\") }}{{ config_get('none', \"d\") }}{{ config_get('none') }}", "1d"),
            ("{% if config.none %}a{% elif config.b %}b{% else %}c{% endif %}", "c"),
            ("{% if not config.b and path == '/etc/X' %}a{% endif %}", "a"),
            ("{% if !config.b && (path != \"x\" || false) %}a{% endif %}", "a"),
            ("{% if 'user.x' in config %}a{% endif %}{% if 'etc' in path %}b{% endif %}", "ab"),
            ("{% for key, value in config %}{{ key }}={{ value }};{% endfor %}", "b=;user.x=1;"),
            (
                "{% for name in devices %}{{ name }}{% for k in devices[name] %},{{ k }}{% endfor %}{% endfor %}",
                "eth0,b,user.x",
            ),
            ("a  {%- if true -%}  b  {%- endif %} c", "ab c"),
            ("{{ '}}' }}{{ \"%}\" }}", "}}%}"),
            ("{ } {x} %} }}", "{ } {x} %} }}"),
        ];
        for (source, expected) in cases {
            assert_eq!(rendered(source).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn work_and_output_are_bounded() {
        let body = "{% for a in config %}".repeat(25) + &"{% endfor %}".repeat(25);
        assert!(rendered(&body).unwrap_err().1.contains("steps"));
        let deep = "{% if true %}".repeat(100) + &"{% endif %}".repeat(100);
        assert!(rendered(&deep).unwrap_err().1.contains("in each other"));
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(rendered(&deep).unwrap_err().1.contains("in each other"));
        let long = "x".repeat(1 << 20);
        let nested = "{% for a in config %}".repeat(4) + &long + &"{% endfor %}".repeat(4);
        assert!(rendered(&nested).unwrap_err().1.contains("bytes"));
    }

    #[test]
    fn faults_tell_the_line() {
        assert_eq!(rendered("a\n\n{{ none }}"), Err((3, "`none` is not known".to_owned())));
        assert_eq!(rendered("{{ config.none }}").unwrap_err().1, "`config.none` is not known");
        for source in [
            "{{",
            "{% if %}",
            "{% if 1 %}",
            "{% endif %}",
            "{{ 1 2 }}",
            "{{ 'a }}",
            "{{ config }}",
            "{{ a+b }}",
            "{% for %}{% endfor %}",
            "{% if 1 %}{% else %}{% else %}{% endif %}",
            "{{ path[ }}",
            "{{ 9x }}",
            "{{ | }}",
        ] {
            assert!(rendered(source).is_err(), "{source}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer(source in "(\\{\\{|\\{%|%\\}|\\}\\}|\\{#|-|if|for|in|endif|config|\\(|\\||\"|'| |\\PC){0,40}") {
            let _ = rendered(&source);
        }
    }
}
