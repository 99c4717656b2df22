//! System users and groups for workers in their sandbox: the name service reads what it likes and loads
//! what it likes, so a process of its own asks it, and knows nothing but the names.
//!
//! The supervisor adds the role when another one says [`Needs::users`](crate::Needs).

use std::time::Duration;

use nix::unistd::{Group, Uid, User};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::supervisor::nobody;
use crate::{Link, LinkClient, Needs, Plan, Problems, Role, Worker, WorkerError, privileges};

pub(crate) const ROLE: &str = "users";
const LONGEST_ANSWER: u64 = 1024 * 1024;
/// Directory services may be slow; then the answer is an error, which is temporary for mail.
const PATIENCE: Duration = Duration::from_secs(60);

/// A user as passwd(5) has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEntry {
    pub name: String,
    pub password: String,
    pub uid: u32,
    pub gid: u32,
    pub gecos: String,
    pub home: String,
    pub shell: String,
}

/// A group as group(5) has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEntry {
    pub name: String,
    pub password: String,
    pub gid: u32,
    pub members: Vec<String>,
}

#[derive(Serialize, Deserialize)]
enum Question<'q> {
    User(&'q str),
    /// A user's number.
    Uid(u32),
    Group(&'q str),
}

/// Asks for system users; see [`Worker::users`].
#[derive(Clone, Debug)]
pub struct Users(LinkClient);

impl Users {
    pub(crate) fn new(link: LinkClient) -> Self {
        Self(link)
    }

    /// # Errors
    ///
    /// What the name service says when it cannot answer.
    pub async fn user(&self, name: &str) -> Result<Option<UserEntry>, String> {
        self.ask(&Question::User(name)).await
    }

    /// The user of this number.
    ///
    /// # Errors
    ///
    /// As [`Self::user`].
    pub async fn numbered(&self, uid: u32) -> Result<Option<UserEntry>, String> {
        self.ask(&Question::Uid(uid)).await
    }

    /// # Errors
    ///
    /// As [`Self::user`].
    pub async fn group(&self, name: &str) -> Result<Option<GroupEntry>, String> {
        self.ask(&Question::Group(name)).await
    }

    async fn ask<T: for<'a> Deserialize<'a>>(&self, question: &Question<'_>) -> Result<T, String> {
        let question = serde_json::to_vec(question).map_err(|error| error.to_string())?;
        let asked = async {
            let answer = self.0.ask(&question, Vec::new()).await?;
            let mut bytes = Vec::new();
            answer.take(LONGEST_ANSWER).read_to_end(&mut bytes).await?;
            Ok(bytes)
        };
        let answer: std::io::Result<Vec<u8>> = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer,
            Err(_) => return Err("the name service does not answer".to_owned()),
        };
        let answer = answer.map_err(|error| error.to_string())?;
        serde_json::from_slice::<Result<T, String>>(&answer)
            .unwrap_or_else(|_| Err("the look-up of users has ended".to_owned()))
    }
}

/// Adds role and link where a role asks for users.
pub(crate) fn add(plan: &mut Plan, problems: &mut Problems) {
    let asks = |role: &&Role| role.sandbox.as_ref().is_some_and(|needs| needs.users);
    let clients: Vec<String> =
        plan.roles.iter().filter(asks).map(|role| role.name.clone()).collect();
    if clients.is_empty() {
        return;
    }
    let mut role = Role::new(ROLE);
    *role.needs() =
        Needs { read: vec!["/".into()], network: true, libraries: true, ..Needs::default() };
    if privileges::is_root() {
        role.account = nobody("look-up of users", problems);
    }
    plan.roles.push(role);
    plan.links.push(Link { name: ROLE.to_owned(), clients, server: ROLE.to_owned() });
}

pub(crate) fn work(worker: &Worker) -> Result<(), WorkerError> {
    worker.run(async {
        let server = worker.link_server(ROLE)?;
        loop {
            let request = tokio::select! {
                _ = worker.finishing() => return Ok(()),
                request = server.next() => request.map_err(WorkerError::io(ROLE))?,
            };
            let Some(mut request) = request else { return Ok(()) };
            let busy = worker.room().await;
            drop(tokio::spawn(async move {
                let _busy = busy;
                let found = tokio::task::spawn_blocking(move || find(&request.payload)).await;
                if let Ok(Some(answer)) = found {
                    let _ = request.answer.write_all(&answer).await;
                }
            }));
        }
    })
}

fn find(question: &[u8]) -> Option<Vec<u8>> {
    let answer = match serde_json::from_slice(question).ok()? {
        Question::User(name) => {
            let user = User::from_name(name).map_err(|errno| errno.desc().to_owned());
            serde_json::to_vec(&user.map(|user| user.map(UserEntry::from)))
        }
        Question::Uid(uid) => {
            let user = User::from_uid(Uid::from_raw(uid)).map_err(|errno| errno.desc().to_owned());
            serde_json::to_vec(&user.map(|user| user.map(UserEntry::from)))
        }
        Question::Group(name) => {
            let group = Group::from_name(name).map_err(|errno| errno.desc().to_owned());
            serde_json::to_vec(&group.map(|group| group.map(GroupEntry::from)))
        }
    };
    answer.ok()
}

impl From<User> for UserEntry {
    fn from(user: User) -> Self {
        Self {
            name: user.name,
            password: user.passwd.to_string_lossy().into_owned(),
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            gecos: user.gecos.to_string_lossy().into_owned(),
            home: user.dir.display().to_string(),
            shell: user.shell.display().to_string(),
        }
    }
}

impl From<Group> for GroupEntry {
    fn from(group: Group) -> Self {
        Self {
            name: group.name,
            password: group.passwd.to_string_lossy().into_owned(),
            gid: group.gid.as_raw(),
            members: group.mem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_and_nonsense_is_not_answered() {
        let answer = find(br#"{"User":"root"}"#).unwrap();
        let root: Result<Option<UserEntry>, String> = serde_json::from_slice(&answer).unwrap();
        assert_eq!(root.unwrap().unwrap().uid, 0);
        assert_eq!(find(br#"{"Group":"no such group"}"#).unwrap(), br#"{"Ok":null}"#);
        assert_eq!(find(b"passwd root"), None);
    }
}
