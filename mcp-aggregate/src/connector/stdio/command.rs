use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
};

/// Variables that a program needs to run, and that are passed on when this process has them.
const INHERITED: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SystemRoot",
];

/// A command that starts a server.
///
/// It is run as it is: no shell reads it.
#[derive(Clone)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
}

impl Command {
    /// Names a program, by path or to be found in `PATH`.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            variables: Vec::new(),
            folder: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the process's environment. Its value is kept out of logs and errors.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Sets the folder in which the process starts. Default is the one of this process.
    #[must_use]
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Returns the program.
    #[must_use]
    pub fn program(&self) -> &OsStr {
        &self.program
    }

    /// Returns the values that must not be shown.
    pub(super) fn secrets(&self) -> Vec<String> {
        self.variables
            .iter()
            .filter_map(|(_, value)| value.to_str())
            .map(str::to_owned)
            .collect()
    }

    /// Adds all that the command says to a digest.
    pub(crate) fn put_in(&self, digester: &mut crate::digest::Digester) {
        digester.put(self.program.as_encoded_bytes());
        for argument in &self.arguments {
            digester.put(argument.as_encoded_bytes());
        }
        digester.put(b"environment");
        for (name, value) in &self.variables {
            digester.put(name.as_encoded_bytes());
            digester.put(value.as_encoded_bytes());
        }
        if let Some(folder) = &self.folder {
            digester
                .put(b"folder")
                .put(folder.as_os_str().as_encoded_bytes());
        }
    }

    pub(super) fn to_process(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.arguments).env_clear();
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<_> = self.variables.iter().map(|(name, _)| name).collect();
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("arguments", &self.arguments.len())
            .field("variables", &variables)
            .finish_non_exhaustive()
    }
}
