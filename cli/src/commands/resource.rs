//! What is the same for every object with configuration: show, get, set, unset, edit, rename, delete.

use super::Context;
use crate::client::{ApiPath, Client, Fetched};
use crate::edit::{self, Draft, Source};
use crate::fields::{object_mut, settings, writable};
use crate::output;
use crate::terminal;
use anyhow::{Result, bail};
use http::Method;
use serde_json::{Value, json};

/// One object on a server.
#[derive(Debug)]
pub(crate) struct Resource {
    /// Where it lives.
    pub(crate) client: Client,
    /// Its path.
    pub(crate) path: ApiPath,
    /// What it is, for messages.
    pub(crate) kind: &'static str,
    /// Its name, for messages.
    pub(crate) name: String,
    /// The fields a PUT takes.
    pub(crate) writable: &'static [&'static str],
}

/// The keys `set` takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SetArgs {
    /// Keys and their new values; a value `-` is read from standard input
    #[arg(value_name = "KEY=VALUE", required = true)]
    pub(crate) settings: Vec<String>,
    /// Set fields of the object, such as description, instead of configuration keys
    #[arg(short, long)]
    pub(crate) property: bool,
}

/// The key `get` and `unset` take.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct KeyArgs {
    /// The configuration key
    pub(crate) key: String,
    /// Mean a field of the object, such as description, instead of a configuration key
    #[arg(short, long)]
    pub(crate) property: bool,
}

impl Resource {
    /// Reads it.
    pub(crate) async fn read(&self) -> Result<Fetched> {
        Ok(self.client.get(&self.path).await?)
    }

    /// Shows it as YAML.
    pub(crate) async fn show(&self) -> Result<()> {
        output::show(&self.read().await?.metadata)
    }

    /// Shows one configuration key or field.
    pub(crate) async fn get(&self, args: &KeyArgs) -> Result<()> {
        let object = self.read().await?.metadata;
        let value = if args.property { &object[&args.key] } else { &object["config"][&args.key] };
        if args.property && object.get(&args.key).is_none() {
            bail!("the {} {:?} has no field {:?}", self.kind, self.name, args.key);
        }
        match value {
            Value::Null => output::line(""),
            Value::String(text) => output::line(text),
            other => output::show(other),
        }
    }

    /// Sets configuration keys or fields.
    pub(crate) async fn set(&self, context: &Context, args: &SetArgs) -> Result<()> {
        let mut settings = settings(&args.settings)?;
        for (_, value) in settings.iter_mut().filter(|(_, value)| value == "-") {
            *value = terminal::read_stdin().await?;
        }
        self.update(context, |object| {
            for (key, value) in settings {
                if args.property {
                    set_field(object, &key, &value)?;
                } else {
                    object_mut(object, "config")?.insert(key, Value::String(value));
                }
            }
            Ok(())
        })
        .await
    }

    /// Takes a configuration key away, or empties a field.
    pub(crate) async fn unset(&self, context: &Context, args: &KeyArgs) -> Result<()> {
        let (kind, name) = (self.kind, self.name.clone());
        self.update(context, |object| {
            if args.property {
                return set_field(object, &args.key, "");
            }
            match object_mut(object, "config")?.remove(&args.key) {
                Some(_) => Ok(()),
                None => bail!("the {kind} {name:?} has no key {:?}", args.key),
            }
        })
        .await
    }

    /// Reads it, changes it and writes it back, refused when somebody else changed it in between.
    pub(crate) async fn update(
        &self,
        context: &Context,
        change: impl FnOnce(&mut Value) -> Result<()>,
    ) -> Result<()> {
        let read = self.read().await?;
        let mut body = writable(&read.metadata, self.writable);
        change(&mut body)?;
        context.replace(&self.client, &format!("Updating {}", self.name), &self.path, &body, &read).await?;
        Ok(())
    }

    /// Lets the person edit it as YAML, or takes new YAML from standard input.
    pub(crate) async fn edit(&self, context: &Context) -> Result<()> {
        if let Source::Stdin = Source::choose() {
            let body = writable(&edit::from_stdin().await?, self.writable);
            context.change(&self.client, "Updating", Method::PUT, &self.path, Some(body)).await?;
            return Ok(());
        }
        let read = self.read().await?;
        let explanation = format!(
            "The {} {} as YAML. Lines that begin with # are ignored.\nThese fields may be changed: {}.",
            self.kind,
            self.name,
            self.writable.join(", ")
        );
        let mut draft = Draft::of(&explanation, &read.metadata)?;
        loop {
            let _held = context.hold_interrupts();
            let Some(text) = draft.edit().await? else { return Ok(()) };
            drop(_held);
            let error = match self.write_edited(context, &text, &read).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !draft.again(&error).await? {
                return Err(error);
            }
        }
    }

    async fn write_edited(&self, context: &Context, text: &str, read: &Fetched) -> Result<()> {
        let body = writable(&edit::parse(text)?, self.writable);
        context.replace(&self.client, "Updating", &self.path, &body, read).await?;
        Ok(())
    }

    /// Gives it another name.
    pub(crate) async fn rename(&self, context: &Context, new: &str) -> Result<()> {
        let body = json!({"name": new});
        context.change(&self.client, "Renaming", Method::POST, &self.path, Some(body)).await?;
        context.done(&format!("{} {} renamed to {new}", capital(self.kind), self.name))
    }

    /// Deletes it.
    pub(crate) async fn delete(&self, context: &Context) -> Result<()> {
        context.change(&self.client, "Deleting", Method::DELETE, &self.path, None).await?;
        context.done(&format!("{} {} deleted", capital(self.kind), self.name))
    }
}

/// With a capital first letter.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Sets a field to a text, read as the type the field has.
fn set_field(object: &mut Value, name: &str, text: &str) -> Result<()> {
    let Some(field) = object.get_mut(name) else { bail!("there is no field {name:?} that can be set") };
    *field = match field {
        Value::Bool(_) => match text {
            "true" | "yes" | "1" => Value::Bool(true),
            "false" | "no" | "0" | "" => Value::Bool(false),
            _ => bail!("{name:?} is true or false, not {text:?}"),
        },
        Value::String(_) | Value::Null => Value::String(text.to_owned()),
        _ => bail!("{name:?} is more than a text: change it with the edit command"),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_keeps_its_type() {
        let mut object = json!({"public": false, "description": "", "config": {}});
        set_field(&mut object, "public", "yes").unwrap();
        set_field(&mut object, "description", "yes").unwrap();
        assert_eq!(object, json!({"public": true, "description": "yes", "config": {}}));
        assert!(set_field(&mut object, "public", "maybe").is_err());
        assert!(set_field(&mut object, "config", "x").is_err());
        assert!(set_field(&mut object, "nothing", "x").is_err());
    }
}
