//! Terminals.

use std::io;
use std::os::fd::RawFd;

/// Sets the window size of the terminal whose master is `fd`.
pub fn set_size(fd: RawFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure lives through the call; a descriptor that is no terminal gives an error.
    if unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
