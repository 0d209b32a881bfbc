//! Reads passwords: from a file, the environment, or a prompt. Never from the arguments, which every user can list.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::Path,
};

use crate::{
    cli::{Exit, Failure, Result},
    types::limits,
};

/// Reads a password from `file`, else from `environment`, else by a prompt on a terminal. `twice` asks again for
/// confirmation, for passwords that are being set.
pub(super) fn read(file: Option<&Path>, environment: Option<String>, prompt: &str, twice: bool) -> Result<String> {
    if let Some(path) = file {
        return from_file(path)
            .map_err(|error| Failure::new(Exit::Failure, format!("cannot read {}: {error}", path.display())));
    }
    if let Some(password) = environment {
        return Ok(password);
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::new(Exit::Usage, "no password is given, and there is no terminal for a prompt")
            .next("give --password-file FILE or set CHAT_PASSWORD"));
    }
    let password = rpassword::prompt_password(format!("{prompt}: "))?;
    if twice && rpassword::prompt_password(format!("{prompt}, again: "))? != password {
        return Err(Failure::new(Exit::Usage, "the two passwords differ").next("try again"));
    }
    Ok(password)
}

fn from_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    // Room for a line end (two bytes), and for one byte too many: the server then refuses a password that is too long.
    File::open(path)?.take(limits::PASSWORD_BYTES as u64 + 3).read_to_string(&mut text)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_comes_before_the_environment_and_its_line_end_is_no_part_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "open sesame\r\nmore\n").unwrap();
        assert_eq!(read(Some(&path), Some("other".into()), "", false).unwrap(), "open sesame");
        assert_eq!(read(None, Some("other".into()), "", false).unwrap(), "other");
        let missing = read(Some(&directory.path().join("none")), None, "", false).unwrap_err();
        assert!(missing.message.contains("none"), "{missing}");
    }
}
