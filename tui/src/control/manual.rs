//! What dfctl says of itself: completions for shells, and manual pages.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use df_api::failure::{Code, Failure};

use super::flags::{Control, What};

/// Writes what was asked for; `None` if it was something else.
pub(super) fn write(what: &What) -> Option<Result<(), Failure>> {
    let text = match what {
        What::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Control::command(), "dfctl", &mut text);
            Ok(text)
        }
        What::Man { folder: None } => page(),
        What::Man { folder: Some(folder) } => return Some(pages(folder)),
        _ => return None,
    };
    Some(text.and_then(|text| match io::stdout().lock().write_all(&text) {
        // Whoever reads a page with a pager may leave before its end.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed("write to stdout", &error)),
        _ => Ok(()),
    }))
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::new(Code::LocalIo, format!("cannot {what}")).because(error)
}

fn page() -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let rendered = clap_mangen::Man::new(Control::command()).render(&mut text);
    rendered.map_err(|error| failed("make the page", &error))?;
    Ok(text)
}

/// A page for each command, `dfctl-job-ls.1` and so on.
fn pages(folder: &Path) -> Result<(), Failure> {
    let shown = folder.display();
    std::fs::create_dir_all(folder).map_err(|error| failed(&format!("create {shown}"), &error))?;
    clap_mangen::generate_to(Control::command(), folder).map_err(|error| failed(&format!("write to {shown}"), &error))
}
