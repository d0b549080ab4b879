//! Custom kinds of whole definitions.

use super::*;
