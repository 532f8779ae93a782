//! TCP under the names that the rest of the relay uses: the one place that says whose it is.
//!
//! It is the system's. With the feature `simulation`, which no build of the program has, code that runs on a host of a simulated network
//! gets that host's, and all other code the system's still: the tests of the relay are the same with and without.

mod bind;
#[cfg(feature = "simulation")]
mod simulated;

pub use bind::{BindError, bind};
#[cfg(feature = "simulation")]
pub use simulated::{TcpListener, TcpStream, connect, listen};
#[cfg(not(feature = "simulation"))]
pub use system::{TcpListener, TcpStream, connect, listen};

#[cfg(not(feature = "simulation"))]
mod system {
    use std::io;
    use std::net::SocketAddr;

    pub use tokio::net::{TcpListener, TcpStream};

    use super::{BindError, bind};

    /// Connects to an address.
    ///
    /// # Errors
    /// What the system says.
    pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }

    /// Listens at an address.
    ///
    /// # Errors
    /// As [`bind`].
    pub fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
        bind(address)
    }
}
