//! Editing an object as YAML.

use crate::failure::Told;
use crate::fields::settle_config;
use crate::output::yaml;
use crate::terminal;
use anyhow::{Context, Result};
use serde_json::Value;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

/// Where the new text of an edited object comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// Standard input, because it is no terminal.
    Stdin,
    /// The person's editor.
    Editor,
}

impl Source {
    /// Decides by what standard input is.
    pub(crate) fn choose() -> Self {
        if terminal::stdin_is_terminal() { Self::Editor } else { Self::Stdin }
    }
}

/// Reads an object as YAML from standard input.
pub(crate) async fn from_stdin() -> Result<Value> {
    let text = terminal::read_stdin().await.context("can't read standard input")?;
    parse(&text)
}

/// The object in a YAML text, its configuration values made texts.
pub(crate) fn parse(text: &str) -> Result<Value> {
    let mut value = yaml::read(text).context("this is not YAML we can use")?;
    if !value.is_object() {
        return Err(
            Told::new("expected `name: value` lines", "see the fields with the `show` command").into()
        );
    }
    settle_config(&mut value);
    Ok(value)
}

/// A text in the editor, opened as often as the person wants.
#[derive(Debug)]
pub(crate) struct Draft {
    text: String,
}

impl Draft {
    /// A draft that begins with an explanation as comments and then shows an object.
    pub(crate) fn of(explanation: &str, value: &Value) -> Result<Self> {
        let comments: String = explanation.lines().map(|line| format!("### {line}\n")).collect();
        Ok(Self { text: format!("{comments}{}", yaml::write(value)?) })
    }

    /// Opens the editor. `None` when nothing was changed.
    pub(crate) async fn edit(&mut self) -> Result<Option<String>> {
        let new = in_editor(&self.text).await?;
        let changed = new != self.text;
        self.text.clone_from(&new);
        Ok(changed.then_some(new))
    }

    /// Tells what is wrong and asks whether to open the editor again; the text stays as it was left.
    pub(crate) async fn again(&self, error: &anyhow::Error) -> Result<bool> {
        terminal::notice(crate::failure::text(error).trim_end());
        let answer = terminal::ask("Press Enter to open the editor again, or type q to give up:").await?;
        Ok(!answer.eq_ignore_ascii_case("q"))
    }
}

/// Lets the person change a text in `$VISUAL` or `$EDITOR`.
pub(crate) async fn in_editor(text: &str) -> Result<String> {
    let mut file = tempfile::Builder::new().prefix("larder-").suffix(".yaml").tempfile()?;
    file.write_all(text.as_bytes())?;
    file.flush()?;
    open_editor(file.path()).await?;
    // Many editors replace the file, so it is read by its name and not through the open file.
    std::fs::read_to_string(file.path()).context("can't read what the editor wrote")
}

/// Opens a file in the person's editor and waits for its end.
pub(crate) async fn open_editor(path: &Path) -> Result<()> {
    let named =
        ["VISUAL", "EDITOR"].into_iter().find_map(|name| std::env::var_os(name).filter(|v| !v.is_empty()));
    let editor = named.unwrap_or_else(|| OsString::from("vi"));
    // The variable may hold arguments, as in `code --wait`; a shell is how everybody reads it.
    let mut script = editor.clone();
    script.push(" \"$1\"");
    // The person's own editor needs this terminal: it is no tool of ours to trace or limit.
    let mut command = tokio::process::Command::new("/bin/sh");
    let status = command.arg("-c").arg(script).arg("editor").arg(path).status().await?;
    if !status.success() {
        let message = format!("the editor {} ended with {status}", editor.display());
        return Err(Told::new(message, "choose an editor in VISUAL or EDITOR").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_edited_object_comes_back_with_texts_in_its_config() {
        let parsed =
            parse("### a comment\nconfig:\n  limits.cpu: 2\n  x: yes\ndescription: hello\n").unwrap();
        assert_eq!(parsed["config"]["limits.cpu"], json!("2"));
        assert_eq!(parsed["description"], json!("hello"));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in ["- a\n- b\n", "just text", "a: [", ""] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
