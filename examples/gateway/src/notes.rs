use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use rmcp::{
    ServerHandler,
    handler::server::wrapper::Parameters,
    model::{ServerCapabilities, ServerConfig},
    schemars::JsonSchema,
    tool, tool_handler, tool_router,
};
use serde::Deserialize;

/// Keeps notes for as long as the session lasts: a server in this process, on rmcp's macros.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    notes: Arc<Mutex<BTreeMap<String, String>>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Note {
    /// What the note is called.
    title: String,
    /// What it says.
    text: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Title {
    /// What the note is called.
    title: String,
}

#[tool_router]
impl Notes {
    /// Writes a note, over one of the same title.
    #[tool(annotations(idempotent_hint = true))]
    fn write(&self, Parameters(note): Parameters<Note>) -> String {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.insert(note.title, note.text);
        format!("{} notes", notes.len())
    }

    /// Reads a note.
    #[tool(annotations(read_only_hint = true))]
    fn read(&self, Parameters(Title { title }): Parameters<Title>) -> String {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        match notes.get(&title) {
            Some(text) => text.clone(),
            None => format!("there is no note {title:?}"),
        }
    }

    /// Lists the titles of all notes.
    #[tool(annotations(read_only_hint = true))]
    fn titles(&self) -> String {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.keys().cloned().collect::<Vec<_>>().join("\n")
    }
}

#[tool_handler]
impl ServerHandler for Notes {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}
