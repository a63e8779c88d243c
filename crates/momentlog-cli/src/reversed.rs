//! Texts that are shown the last one first, in bounded memory: those that do not fit wait in a temporary file.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

/// Bytes of texts that are kept in memory. Tests fill several blocks with little.
const BLOCK_LEN: usize = if cfg!(test) { 16 } else { 4 << 20 };

/// Texts, in the order in which they came.
#[derive(Debug, Default)]
pub struct Reversed {
    waiting: Vec<String>,
    bytes: usize,
    /// What came before what is waiting: blocks of these lengths, each with its last text first.
    blocks: Vec<usize>,
    file: Option<File>,
}

impl Reversed {
    /// Adds a text.
    ///
    /// # Errors
    ///
    /// That no temporary file can be made or written.
    pub fn push(&mut self, text: String) -> io::Result<()> {
        self.bytes += text.len();
        self.waiting.push(text);
        if self.bytes < BLOCK_LEN {
            return Ok(());
        }
        let block = self.take_block();
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile()?),
        };
        file.write_all(block.as_bytes())?;
        self.blocks.push(block.len());
        Ok(())
    }

    /// Calls `show` with all texts, the last one first, until it returns false; some come in one piece.
    ///
    /// # Errors
    ///
    /// That the temporary file cannot be read.
    pub fn show(mut self, mut show: impl FnMut(&str) -> bool) -> io::Result<()> {
        let newest = self.take_block();
        if !newest.is_empty() && !show(&newest) {
            return Ok(());
        }
        let Some(mut file) = self.file else {
            return Ok(());
        };
        let mut end: u64 = self.blocks.iter().map(|length| *length as u64).sum();
        for length in self.blocks.into_iter().rev() {
            end -= length as u64;
            file.seek(SeekFrom::Start(end))?;
            let mut block = vec![0; length];
            file.read_exact(&mut block)?;
            let block = String::from_utf8(block).map_err(io::Error::other)?;
            if !show(&block) {
                break;
            }
        }
        Ok(())
    }

    /// What is waiting, the last one first, in one piece.
    fn take_block(&mut self) -> String {
        self.bytes = 0;
        self.waiting.drain(..).rev().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_text_comes_first_however_many_blocks_they_fill() {
        for count in [0, 1, 3, 4, 7, 100] {
            let mut texts = Reversed::default();
            for number in 0..count {
                texts.push(format!("{number},")).expect("there is a disk");
                assert!(texts.bytes < BLOCK_LEN);
            }
            let mut shown = String::new();
            let show = |text: &str| {
                shown += text;
                true
            };
            texts.show(show).expect("there is a disk");
            let wanted: Vec<String> = (0..count)
                .rev()
                .map(|number| format!("{number},"))
                .collect();
            assert_eq!(shown, wanted.concat());
        }
    }

    #[test]
    fn it_ends_as_soon_as_it_is_told_to() {
        let mut texts = Reversed::default();
        for _ in 0..20 {
            texts.push("a text\n".to_owned()).expect("there is a disk");
        }
        let mut count = 0;
        let show = |_: &str| {
            count += 1;
            count < 2
        };
        texts.show(show).expect("there is a disk");
        assert_eq!(count, 2);
    }
}
