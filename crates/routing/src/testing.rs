//! Tables in memory for this crate's tests.

use std::collections::HashMap;

use crate::tables::{Key, LookupError, TableName, Tables};

#[derive(Default)]
pub struct Memory(HashMap<String, HashMap<String, String>>);

impl Memory {
    pub fn with(mut self, table: &str, entries: &[(&str, &str)]) -> Self {
        let entries = entries.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        self.0.insert(table.to_owned(), entries.collect());
        self
    }
}

impl Tables for Memory {
    async fn lookup(
        &self,
        table: &TableName,
        key: &str,
        _: Key,
    ) -> Result<Option<String>, LookupError> {
        match self.0.get(table.as_str()) {
            Some(entries) => Ok(entries.get(&key.to_lowercase()).cloned()),
            None => Err(LookupError { table: table.clone(), why: "no such table".to_owned() }),
        }
    }
}
